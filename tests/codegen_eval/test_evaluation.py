"""Evaluation without a sandbox: grouping, rows, slow programs, figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.evaluation import Task, feasible_k, group, run_tests, summarise, time_right
from codegen_eval.metrics.pass_at_k import pass_at_k
from codegen_eval.records import Problem, Sample
from sandbox import CallTest, Isolation, Limits, Program, Result, TimingJob, Verdict

TIMES = {"fast": 1.0, "slow": 9.0, "hangs": np.inf, "crashes": np.nan}


def problem(task_id: str, sizes: bool = True) -> Problem:
    graded = (((1,),), ((10,), (20,))) if sizes else ()
    return Problem(task_id, "P:", "f", (CallTest((1,), 1),), "fast", graded)


def samples(task_id: str, *bodies: str) -> list[Sample]:
    return [Sample(task_id, body, None, number) for number, body in enumerate(bodies)]


class Box:
    """Stands in for the sandbox: a body says its verdict, or how fast it is."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def run(self, programs: Iterable[Program]) -> Iterator[Result]:
        for program in programs:
            self.ran.append(program.source)
            word = program.source.removeprefix("P:")
            verdict = Verdict.passed if word in TIMES else Verdict(word)
            yield Result(program.id, verdict, "why", "", (), 0.0, 0.0, Isolation("none"), Limits())

    def time_many(self, jobs: Iterable[TimingJob]) -> Iterator[np.ndarray]:
        for job in jobs:
            yield np.array(
                [[TIMES[source.removeprefix("P:")] / 2] * len(job.calls) for source in job.sources]
            )


def evaluate(tasks: Sequence[Task], ks: Sequence[int] = (1,), box: Box | None = None) -> dict[str, Any]:
    box = box or Box()
    rows = [row for part in run_tests(tasks, lambda: box) for row in part]  # type: ignore[arg-type]
    right: list[list[bool]] = [[] for _ in tasks]
    for index, task in enumerate(tasks):
        right[index] = [row["passed"] for row in rows if row["task_id"] == task.problem.task_id]
    speeds = [row for part in time_right(tasks, right, box, 3.0) for row in part]  # type: ignore[arg-type]
    figures = summarise(tasks, rows, speeds, ks, resamples=500, seed=0)
    return {"benchmark": "b", "split": None, **figures}


def test_equal_programs_run_once() -> None:
    box = Box()
    tasks = group([problem("a")], samples("a", "fast", "timeout", "fast", "fast"))
    rows = [row for part in run_tests(tasks, lambda: box) for row in part]  # type: ignore[arg-type]
    assert box.ran == ["P:fast", "P:timeout"]
    assert [row["result"] for row in rows] == ["passed", "timed out", "passed", "passed"]
    assert rows[0] == {
        "task_id": "a", "sample": 0, "completion": "fast", "passed": True, "result": "passed",
        "verdict": "passed", "cause": "why", "message": "", "failed_test": None,
    }  # fmt: skip


def test_a_task_the_benchmark_does_not_have_is_an_error() -> None:
    with pytest.raises(CodealignError, match=r"no task 'HumanEval/1O'.*did you mean 'HumanEval/10'"):
        group([problem("HumanEval/10"), problem("HumanEval/7")], samples("HumanEval/1O", "fast"))


def test_missing_tasks_are_named_unless_partial_is_allowed() -> None:
    problems = [problem(str(i)) for i in range(9)]
    with pytest.raises(
        CodealignError, match=r"8 of 9 tasks have no sample: '0', '1', '2', '3', '5', \.\.\.;"
    ):
        group(problems, samples("4", "fast"))
    assert [task.problem.task_id for task in group(problems, samples("4", "fast"), partial=True)] == ["4"]


def test_k_beyond_the_samples_is_an_error_only_when_asked_for() -> None:
    tasks = group([problem("a"), problem("b")], samples("a", *["fast"] * 12) + samples("b", *["fast"] * 11))
    assert feasible_k((), tasks) == (1, 10)
    assert feasible_k((11, 2, 2), tasks) == (2, 11)
    with pytest.raises(CodealignError, match="k=12 needs at least 12 samples, task 'b' has 11"):
        feasible_k((12,), tasks)


def test_figures_are_those_of_the_estimators() -> None:
    tasks = group(
        [problem("a"), problem("b"), problem("c", sizes=True)],
        samples("a", "fast", "slow", "wrong_answer", "hangs")
        + samples("b", "fast", "fast", "fast", "crashes")
        + samples("c", *["runtime_error"] * 4),
    )
    results = evaluate(tasks, (1, 2))
    expected = pass_at_k([4, 4, 4], [3, 4, 0], 2).mean()
    assert results["pass_at_k"]["2"]["value"] == pytest.approx(expected)
    assert results["pass_at_k"]["1"]["value"] == pytest.approx(7 / 12)
    assert results["slow_share"]["value"] == pytest.approx(3 / 7)
    assert [p["slow"] for p in results["problems"]] == [2, 1, None]
    assert results["verdicts"] == {"passed": 7, "runtime_error": 4, "wrong_answer": 1}
    assert results["samples_per_problem"] == 4 and results["n_problems"] == 3


def test_a_reference_that_cannot_be_timed_leaves_its_problem_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMES, "fast", np.nan)
    results = evaluate(group([problem("a")], samples("a", "slow")))
    assert results["slow_share"] is None and results["problems"][0]["slow"] is None


def test_differing_numbers_of_samples_have_no_common_number() -> None:
    tasks = group([problem("a"), problem("b")], samples("a", "fast") + samples("b", "fast", "slow"))
    assert evaluate(tasks)["samples_per_problem"] is None
