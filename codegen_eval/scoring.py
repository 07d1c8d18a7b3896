"""From samples to efficiency scores: which programs are timed, and what is said of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from codegen_eval.efficiency.ahead import ahead
from codegen_eval.efficiency.compat import compat
from codegen_eval.efficiency.robust import robust
from codegen_eval.efficiency.scores import Score, Scored, Settings
from codegen_eval.evaluation import Rows, Task, result_row
from codegen_eval.records import Problem
from codegen_eval.running import TOO_LONG, too_long
from sandbox import Sandbox

Mode = Literal["robust", "compat"]
Work = Sequence[tuple[Problem, Sequence[str]]]
_NOT_RUN = "its hidden tests failed"
_TOO_LONG = f"syntax_error {TOO_LONG}"


def score_tasks(
    tasks: Sequence[Task], right: Sequence[Sequence[bool]], box: Sandbox, mode: Mode, settings: Settings
) -> Iterator[Rows]:
    """Scores the right samples of each task; equal programs once.

    Args:
        tasks: Tasks whose problems have graded inputs and a reference.
        right: For each task, whether each sample passed its hidden tests (True where there are none).
        box: Where they run.
        mode: `robust`, or `compat` for the ENAMEL authors' procedure.
        settings: Of the procedure.

    Yields:
        One list a task with a row for each sample: task_id, sample, passed, eff, eff_clipped (at 1), levels,
        seconds (of each level), cause, reference_seconds, time_limit, noise, eff_error (standard error).

    Raises:
        CodealignError: If a reference fails or cannot be timed.
    """
    chosen = [
        sorted(
            {i for i, ok in zip(task.program_of, marks, strict=True) if ok and not too_long(task.programs[i])}
        )
        for task, marks in zip(tasks, right, strict=True)
    ]
    work = [
        (task.problem, [task.programs[i] for i in indices])
        for task, indices in zip(tasks, chosen, strict=True)
        if indices
    ]
    found = PROCEDURES[mode](work, box, settings)
    for task, marks, indices in zip(tasks, right, chosen, strict=True):
        if not indices:
            long = Score(False, 0.0, (), _TOO_LONG)
            yield [
                _row(task, sample.sample, long if ok else None, None)
                for sample, ok in zip(task.samples, marks, strict=True)
            ]
            continue
        scored = next(found)
        of = dict(zip(indices, scored.scores, strict=True))
        yield [
            _row(task, sample.sample, of.get(index, Score(False, 0.0, (), _TOO_LONG)) if ok else None, scored)
            for sample, index, ok in zip(task.samples, task.program_of, marks, strict=True)
        ]


def _robust(work: Work, box: Sandbox, settings: Settings) -> Iterator[Scored]:
    """As many problems at once as there are workers, and one whose answers are compared meanwhile: what
    counts are quotients of neighbouring times.
    """
    return ahead(lambda item: robust(*item, box, settings), work, box.workers + 1)


def _compat(work: Work, box: Sandbox, settings: Settings) -> Iterator[Scored]:
    """One thing at a time: wall time counts."""
    return (compat(problem, sources, box, settings) for problem, sources in work)


PROCEDURES: dict[Mode, Callable[[Work, Sandbox, Settings], Iterator[Scored]]] = {
    "robust": _robust,
    "compat": _compat,
}


def _row(task: Task, number: int, score: Score | None, scored: Scored | None) -> dict[str, Any]:
    found = score or Score(False, 0.0, (), _NOT_RUN)
    return {
        "task_id": task.problem.task_id,
        "sample": number,
        "passed": found.passed,
        "eff": found.value,
        "eff_clipped": min(1.0, found.value),
        "levels": list(found.levels),
        "seconds": list(found.seconds),
        "cause": found.cause,
        "reference_seconds": list(scored.reference) if scored else None,
        "time_limit": scored.time_limit if scored else None,
        "noise": scored.noise if scored else None,
        "eff_error": found.error,
    }


def result_rows(tasks: Sequence[Task], scores: Iterable[Mapping[str, Any]]) -> Iterator[Rows]:
    """Rows of sample_results.jsonl, a list a task, where graded inputs are a benchmark's only tests."""
    of = {(row["task_id"], row["sample"]): row for row in scores}
    for task in tasks:
        rows = [of[task.problem.task_id, sample.sample] for sample in task.samples]
        yield [
            result_row(sample, "passed" if row["passed"] else _verdict(row["cause"]), row["cause"])
            for sample, row in zip(task.samples, rows, strict=True)
        ]


def _verdict(cause: str) -> str:
    """The verdict that a cause of grading names."""
    known = ("syntax_error", "timeout", "memory_limit", "output_limit", "violation", "runtime_error")
    if cause.endswith("TimeoutException"):
        return "timeout"
    if "wrong" in cause:
        return "wrong_answer"
    return next((name for name in known if name in cause), "runtime_error")
