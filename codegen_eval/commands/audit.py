"""`codealign audit BENCHMARK`: references pass, wrong programs fail, the same run ends alike?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from codegen_eval.commands.positional import with_flags
from codegen_eval.config import Config
from codegen_eval.runs import RunDir, read_jsonl
from sandbox.verdict import Level

DESCRIPTION = (
    "Runs a benchmark's own references and wrong programs made of them: which tests are broken, blind, flaky?"
)
_SHOWN = 20


class AuditConfig(Config):
    """Settings of `codealign audit`."""

    benchmark: str
    """The benchmark; also as the first word, without the flag."""
    out: Path
    """Run directory; audit.jsonl appears in it."""
    dataset: Path | None = None
    """File or folder of the benchmark's data, where it does not ship with us."""
    split: str | None = None
    """Split of the benchmark; its default where not given."""
    limit: PositiveInt | None = None
    """Only the first so many tasks."""
    runs: PositiveInt = 3
    """How often each reference is run; differing ends are a flaky test."""
    mutants: int = Field(default=10, ge=0)
    """Wrong programs a task, besides the one that returns nothing."""
    libraries: tuple[str, ...] = ()
    """Installed packages that programs may import, as numpy."""
    isolation: Level = "full"
    """Isolation to insist on."""
    workers: PositiveInt | None = None
    """Programs that run at the same time; by default as many as there are cores."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def run(config: AuditConfig) -> RunDir:
    """Writes audit.jsonl, a row a task.

    Raises:
        CodealignError: For data that cannot be read, before anything runs.
        SandboxError: If the sandbox cannot be trusted on this machine.
    """
    from codegen_eval.audit import audit
    from codegen_eval.benchmarks.base import load
    from codegen_eval.progress import track
    from sandbox import Sandbox

    problems = load(config.benchmark, config.dataset, config.split)[: config.limit]
    inputs = {"dataset": config.dataset} if config.dataset else {}
    run_dir = RunDir.open(config.out, "audit", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if run_dir.finished:
        return run_dir

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        with Sandbox(config.workers, require=config.isolation, libraries=config.libraries) as box:
            found = audit(
                [problems[part] for part in pending],
                lambda: box,
                runs=config.runs,
                most_mutants=config.mutants,
            )
            for part, finding in zip(pending, track(found, len(pending), "auditing tasks"), strict=True):
                yield part, [finding.to_json()]

    run_dir.build("audit", len(problems), produce)
    run_dir.finish(tasks=len(problems))
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line; 1 if a task is not sound."""
    arguments = with_flags(argv, ("benchmark",), AuditConfig)
    config = AuditConfig.parse(arguments, prog="codealign audit", description=DESCRIPTION)
    run_dir = run(config)
    rows = list(read_jsonl(run_dir.path / "audit.jsonl"))
    show(rows)
    print(f"all findings: {run_dir.path / 'audit.jsonl'}")
    return 0 if all(row["sound"] for row in rows) else 1


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints what is wrong, task by task, and the sums."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    judged = [row for row in rows if row["reference"]]
    bad = [row for row in rows if not row["sound"]]
    weak = [row for row in rows if row["sound"] and row["survivors"]]
    table = Table("task", "what is wrong")
    for row in bad[:_SHOWN]:
        table.add_row(row["task_id"], _fault(row))
    for row in weak[: max(0, _SHOWN - len(bad))]:
        table.add_row(row["task_id"], f"passes although {'; '.join(row['survivors'][:2])}")
    if table.row_count:
        console.print(table, markup=False)
    tried = sum(row["mutants"] for row in rows)
    survived = sum(len(row["survivors"]) for row in rows)
    lines = [
        f"{len(rows)} tasks, {len(judged)} with a reference: {len(judged) - len(bad)} sound, {len(bad)} not",
        f"{tried} wrong programs, {survived} passed all tests (some may mean the same as the reference)",
        f"{sum(row['flaky'] for row in rows)} flaky",
    ]
    scores = [row["efficiency"] for row in rows if row["efficiency"] is not None]
    if scores:
        near = sum(abs(score - 1) <= 0.05 for score in scores) / len(scores)
        lines.append(
            f"references against themselves: mean {sum(scores) / len(scores):.3f}, {near:.0%} within 0.05 "
            f"of 1, farthest {max(scores, key=lambda score: abs(score - 1)):.3f}"
        )
    console.print("\n".join(lines), markup=False, highlight=False)


def _fault(row: dict[str, Any]) -> str:
    if row["flaky"]:
        return f"flaky: its reference gives {', '.join(row['verdicts'])}"
    if row["reference"] != "passed":
        return f"its reference fails: {row['reference']}"
    return "a program that returns nothing passes"
