"""From samples to efficiency scores: which programs are timed, and what is said of each sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from codegen_eval.efficiency.compat import compat
from codegen_eval.efficiency.robust import robust
from codegen_eval.efficiency.scores import Procedure, Score, Scored, Settings
from codegen_eval.evaluation import Rows, Task, result_row
from sandbox import Sandbox

Mode = Literal["robust", "compat"]
PROCEDURES: dict[Mode, Procedure] = {"robust": robust, "compat": compat}
_NOT_RUN = "its hidden tests failed"


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
        seconds (of each level), cause, reference_seconds, time_limit, noise.

    Raises:
        CodealignError: If a reference fails or cannot be timed.
    """
    for task, marks in zip(tasks, right, strict=True):
        chosen = sorted({i for i, ok in zip(task.program_of, marks, strict=True) if ok})
        if not chosen:
            yield [_row(task, sample.sample, None, None) for sample in task.samples]
            continue
        scored = PROCEDURES[mode](task.problem, [task.programs[i] for i in chosen], box, settings)
        of = dict(zip(chosen, scored.scores, strict=True))
        yield [
            _row(task, sample.sample, of[index] if ok else None, scored)
            for sample, index, ok in zip(task.samples, task.program_of, marks, strict=True)
        ]


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
