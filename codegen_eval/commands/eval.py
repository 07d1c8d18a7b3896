"""`codealign eval`: pass@k on hidden tests, and how many right programs are slow."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat, PositiveInt

from codegen_eval.config import Config
from codegen_eval.runs import RunDir, read_jsonl
from sandbox.verdict import Level

if TYPE_CHECKING:
    from codegen_eval.evaluation import Rows, Task
    from sandbox import Sandbox

DESCRIPTION = "Runs samples on a benchmark's hidden tests: pass@k with 95 % intervals over problems."
RESULTS = "results.json"


class EvalConfig(Config):
    """Settings of `codealign eval`."""

    benchmark: str
    """minipy, humaneval, or one that another distribution registers."""
    samples: Path
    """JSON lines (.gz too) with task_id and completion or solution, a `sample` run, or TASK_ID/N.py."""
    out: Path
    """Run directory; results.json and sample_results.jsonl appear in it."""
    dataset: Path | None = None
    """File or folder of the benchmark's data, where it does not ship with us."""
    split: str | None = None
    """Split of the benchmark; its default where not given."""
    k: tuple[int, ...] = ()
    """The k of pass@k; where not given, those of 1, 10, 100 that every task has samples for."""
    allow_partial: bool = False
    """Score only the tasks that have samples instead of refusing."""
    efficiency: bool = True
    """Time right programs against the canonical solution, where the benchmark has graded inputs."""
    slow_ratio: PositiveFloat = 5.0
    """A right program is slow when it takes more than this many times the reference's CPU time."""
    cpu_seconds: PositiveFloat = 3.0
    """CPU limit of each test."""
    wall_seconds: PositiveFloat = 12.0
    """Wall-clock limit of each test, for programs that sleep."""
    memory_mb: PositiveInt = 1024
    """Memory limit of a program, MiB."""
    isolation: Level = "full"
    """Isolation to insist on; `codealign doctor` shows what this machine allows."""
    workers: PositiveInt | None = None
    """Programs that run at the same time; by default as many as there are cores."""
    model: str | None = None
    """Name to report; by default what the samples' run directory says."""
    temperature: float | None = None
    """Sampling temperature to report; by default what the samples' run directory says."""
    resamples: PositiveInt = 10_000
    """Bootstrap samples of the intervals."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def run(config: EvalConfig) -> RunDir:
    """Writes sample_results.jsonl, efficiency.jsonl (where there are sizes) and results.json.

    Raises:
        CodealignError: For samples, data or k that do not fit, before anything runs.
        SandboxError: If the sandbox cannot be trusted on this machine.
    """
    from codegen_eval.benchmarks.base import load
    from codegen_eval.evaluation import feasible_k, group, summarise
    from codegen_eval.samples import read_samples, sample_source

    problems = load(config.benchmark, config.dataset, config.split)
    samples = read_samples(config.samples, [problem.task_id for problem in problems])
    tasks = group(problems, samples, partial=config.allow_partial)
    ks = feasible_k(config.k, tasks)
    inputs = {"samples": sample_source(config.samples)}
    if config.dataset:
        inputs["dataset"] = config.dataset
    run_dir = RunDir.open(config.out, "eval", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if run_dir.finished:
        return run_dir
    with _LazySandbox(config) as box:
        rows = list(read_jsonl(_test(run_dir, tasks, box)))
        speeds = _time(run_dir, tasks, rows, box, config.slow_ratio) if config.efficiency else None
    results = summarise(tasks, rows, speeds, ks, resamples=config.resamples, seed=config.seed)
    source = _provenance(config.samples)
    run_dir.write_json(
        RESULTS,
        {
            "benchmark": config.benchmark,
            "split": config.split,
            "model": config.model or source.get("model"),
            "temperature": config.temperature
            if config.temperature is not None
            else source.get("temperature"),
            **results,
        },
    )
    run_dir.finish(pass_at_k={k: entry["value"] for k, entry in results["pass_at_k"].items()})
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = EvalConfig.parse(argv, prog="codealign eval", description=DESCRIPTION)
    from codegen_eval.evaluation import DEFAULT_K

    run_dir = run(config)
    results = run_dir.read_json(RESULTS)
    show(results)
    left_out = [k for k in DEFAULT_K if str(k) not in results["pass_at_k"]]
    if not config.k and left_out:
        print(f"left out for want of samples: {', '.join(f'pass@{k}' for k in left_out)}", file=sys.stderr)
    print(f"results: {run_dir.path / RESULTS}")
    return 0


def show(results: dict[str, Any]) -> None:
    """Prints the figures as a table, and how often each verdict occurred."""
    from rich.console import Console
    from rich.table import Table

    name = results["benchmark"] + (f", {results['split']}" if results["split"] else "")
    each = results["samples_per_problem"]
    drawn = f"{each} samples each" if each else "differing numbers of samples"
    table = Table()
    for column in ("", "value", "95 % interval"):
        table.add_column(column, justify="left" if not column else "right")
    figures = {f"pass@{k}": entry for k, entry in results["pass_at_k"].items()}
    if results["slow_share"]:
        figures["slow among right"] = results["slow_share"]
    for label, entry in sorted(figures.items(), key=lambda item: (item[0][:4], len(item[0]), item[0])):
        table.add_row(label, f"{entry['value']:.4f}", f"{entry['low']:.4f} to {entry['high']:.4f}")
    console = Console()
    console.print(f"{name}: {results['n_problems']} problems, {drawn}", markup=False, highlight=False)
    console.print(table)
    counts = ", ".join(f"{verdict} {count}" for verdict, count in results["verdicts"].items())
    console.print(f"verdicts: {counts}", markup=False, highlight=False)


class _LazySandbox:
    """The sandbox, started when it is first needed: a resumed run whose programs have all run needs none."""

    def __init__(self, config: EvalConfig) -> None:
        self._config = config
        self._box: Sandbox | None = None

    def __enter__(self) -> _LazySandbox:
        return self

    def __exit__(self, *error: object) -> None:
        if self._box is not None:
            self._box.close()

    def get(self) -> Sandbox:
        if self._box is None:
            from sandbox import Limits, Sandbox

            limits = Limits(
                cpu_seconds=self._config.cpu_seconds,
                wall_seconds=self._config.wall_seconds,
                memory_mb=self._config.memory_mb,
            )
            self._box = Sandbox(self._config.workers, limits=limits, require=self._config.isolation)
        return self._box


def _test(run_dir: RunDir, tasks: Sequence[Task], box: _LazySandbox) -> Path:
    """Runs the hidden tests, one part a problem."""
    from codegen_eval.evaluation import run_tests
    from codegen_eval.progress import track

    def produce(pending: list[int]) -> Iterator[tuple[int, Rows]]:
        found = run_tests([tasks[part] for part in pending], box.get())
        return zip(pending, track(found, len(pending), "testing problems"), strict=True)

    return run_dir.build("sample_results", len(tasks), produce)


def _time(
    run_dir: RunDir, tasks: Sequence[Task], rows: Rows, box: _LazySandbox, slow_ratio: float
) -> Rows | None:
    """Times right programs, one part a problem; None where no problem has graded inputs."""
    from codegen_eval.evaluation import time_right
    from codegen_eval.progress import track

    timed = [task for task in tasks if task.problem.sizes and task.problem.canonical_solution]
    if not timed:
        return None
    passed = {(row["task_id"], row["sample"]): row["passed"] for row in rows}
    right = [[passed[task.problem.task_id, sample.sample] for sample in task.samples] for task in timed]

    def produce(pending: list[int]) -> Iterator[tuple[int, Rows]]:
        found = time_right([timed[i] for i in pending], [right[i] for i in pending], box.get(), slow_ratio)
        return zip(pending, track(found, len(pending), "timing problems"), strict=True)

    return list(read_jsonl(run_dir.build("efficiency", len(timed), produce)))


def _provenance(samples: Path) -> dict[str, Any]:
    """The configuration of the run that drew the samples, if it was one of ours: model, temperature."""
    protocol = (samples if samples.is_dir() else samples.parent) / "protocol.json"
    try:
        config = json.loads(protocol.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}
