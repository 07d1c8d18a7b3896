"""`codealign execute`: the model's programs on the model's tests, in the sandbox, to pass matrices."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from codegen_eval.benchmarks.base import load
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.execution import SOURCES, MatrixRunner, Source, build_rows
from codegen_eval.progress import track
from codegen_eval.records import Prompt
from codegen_eval.runs import RunDir, read_jsonl
from codegen_eval.samples import read_samples
from sandbox import Level, Limits, Sandbox

DESCRIPTION = "Runs the model's programs on the model's tests and the docstring's examples."
PROBLEMS_PER_PART = 8


class ExecuteConfig(Config):
    """Settings of `codealign execute`."""

    programs: Path
    """programs.jsonl of `codealign sample`."""
    out: Path
    """Run directory; matrices.jsonl appears in it."""
    tests: Path | None = None
    """tests.jsonl of `codealign sample`; needed for the source `own`."""
    sources: tuple[Source, ...] = SOURCES
    """Where tests come from: own (written by the model), examples (shown by the prompt's docstring)."""
    benchmark: str = "minipy"
    """Where the prompts come from; its hidden tests are never read."""
    split: str | None = None
    """Split of the benchmark."""
    dataset: Path | None = None
    """Data of the benchmark, where it does not ship with the project."""
    cpu_seconds: float = Field(default=1.0, gt=0)
    """CPU time of one program on one test."""
    wall_seconds: float = Field(default=6.0, gt=0)
    """Backstop for programs that wait instead of computing."""
    memory_mb: int = Field(default=512, gt=0)
    """Memory of one program."""
    isolation: Level = "full"
    """Isolation to insist on; `codealign doctor` shows what this machine allows."""
    workers: int | None = Field(default=None, ge=1)
    """Sandbox workers; default by the machine."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def completions(path: Path, prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    """Completions of a sample file by task id, in the order of their sample numbers.

    Raises:
        CodealignError: For an unreadable or empty file, a task that the benchmark does not have, a sample
            without completion.
    """
    known = {p.task_id for p in prompts}
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for sample in read_samples(path):
        if sample.task_id not in known:
            raise CodealignError(
                f"{path}: {unknown('task id', sample.task_id, known)}. "
                "Give the benchmark, data set and split that the samples were drawn for"
            )
        if sample.completion is None or sample.solution is not None:
            what = "has no completion" if sample.completion is None else "is the answer of a chat"
            raise CodealignError(
                f"{path}: sample {sample.sample} of task {sample.task_id!r} {what}; "
                "whole solutions cannot be used here, since pairs need the text after the prompt"
            )
        found[sample.task_id].append((sample.sample, sample.completion))
    return {task_id: [text for _, text in sorted(texts)] for task_id, texts in found.items()}


def _build(config: ExecuteConfig, run_dir: RunDir, runner: MatrixRunner) -> None:
    prompts = [p.public() for p in load(config.benchmark, config.dataset, config.split)]
    programs = completions(config.programs, prompts)
    tests = completions(config.tests, prompts) if config.tests and "own" in config.sources else {}
    sampled = [p for p in prompts if p.task_id in programs]
    parts = [sampled[i : i + PROBLEMS_PER_PART] for i in range(0, len(sampled), PROBLEMS_PER_PART)]
    limits = Limits(config.cpu_seconds, config.wall_seconds, config.memory_mb)

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        # One stream over all parts: the sandbox never waits for the end of a part.
        wanted = [p for part in pending for p in parts[part]]
        rows = build_rows(wanted, programs, tests, runner, sources=config.sources, limits=limits)
        stream = track(rows, len(wanted), "executing problems")
        for part in pending:
            yield part, [next(stream) for _ in parts[part]]

    run_dir.build("matrices", len(parts), produce)


def run(config: ExecuteConfig, runner: MatrixRunner | None = None) -> RunDir:
    """Writes matrices.jsonl, one row a problem that has programs, in the benchmark's order.

    Args:
        config: The settings.
        runner: A sandbox to use instead of one of its own.

    Raises:
        CodealignError: For bad sample files or no source of tests.
        IsolationUnavailable: If this machine cannot isolate programs.
    """
    if not config.sources:
        raise CodealignError("no source of tests: give --sources own, examples, or both")
    if "own" in config.sources and config.tests is None:
        raise CodealignError("--sources own needs --tests FILE; or give --sources examples alone")
    inputs = {"programs": config.programs} | ({"tests": config.tests} if config.tests else {})
    run_dir = RunDir.open(config.out, "execute", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if run_dir.finished:
        return run_dir
    if runner is not None:
        _build(config, run_dir, runner)
    else:
        with Sandbox(workers=config.workers, require=config.isolation) as own:
            _build(config, run_dir, own)
    counts: Counter[str] = Counter()
    for row in read_jsonl(run_dir.path / "matrices.jsonl"):
        counts.update(row["counts"])
        counts["problems"] += 1
        counts["distinct_programs"] += len(row["codes"])
        counts.update(f"distinct_tests_{test['source']}" for test in row["tests"])
    run_dir.finish(**counts)
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    run_dir = run(ExecuteConfig.parse(argv, prog="codealign execute", description=DESCRIPTION))
    print(f"matrices: {run_dir.path / 'matrices.jsonl'}")
    return 0
