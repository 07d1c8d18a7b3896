"""References become expected answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.oracles import answered
from codegen_eval.records import Oracle, Problem
from sandbox import Answer, CallJob, CallTest, CodeTest, Limits, Sandbox, Verdict

SQUARE = "def f(x):\n    return x * x\n"
PROBLEM = Problem("t", "", "f", (), "", oracle=Oracle(SQUARE, ((2,), (1.5,))))


class Box:
    """Stands for a sandbox: answers every call with 7, and keeps the jobs."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.jobs: list[CallJob] = []

    def answers(self, jobs) -> Iterator[tuple[Answer, ...]]:
        for job in jobs:
            self.jobs.append(job)
            yield tuple(Answer(Verdict.passed, "", 7, self.seconds) for _ in job.calls)


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.mark.sandbox
def test_the_references_answers_are_the_tests_behind_those_there_were(box: Sandbox) -> None:
    given = CodeTest("assert f(3) == 9")
    problem = replace(PROBLEM, tests=(given,), oracle=replace(PROBLEM.oracle, tolerance=1e-3))
    (found,) = answered([problem], box)
    assert found.tests == (given, CallTest((2,), 4, 1e-3), CallTest((1.5,), 2.25, 1e-3))
    assert found.oracle is None
    programs = [found.program(source) for source in (SQUARE, "def f(x):\n    return 2 * x")]
    assert [result.verdict for result in box.run(programs)] == [Verdict.passed, Verdict.wrong_answer]


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (
            "def f(x):\n    return 1 / (x - 1.5)",
            r"'t', input 1, \(1\.5,\): .*runtime_error \(ZeroDivisionError\)",
        ),
        ("def f(x)", r"'t', input 0, \(2,\): the reference itself fails: syntax_error"),
        ("def g(x): pass", "the reference itself fails: runtime_error"),
        ("def f(x): return object()", r"wrong_answer \(not plain data\)"),
    ],
)
def test_a_reference_that_fails_is_named_with_task_and_input(box: Sandbox, reference: str, why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        answered([replace(PROBLEM, oracle=replace(PROBLEM.oracle, program=reference))], box)


def test_problems_without_oracle_stay_as_they_are_and_no_box_is_asked() -> None:
    plain = Problem("p", "", "f", (CallTest((1,), 1),), "")
    box = Box()
    assert answered([plain], box) == [plain] and box.jobs == []  # type: ignore[arg-type]
    assert [problem.task_id for problem in answered([PROBLEM, plain], box)] == ["t", "p"]  # type: ignore[arg-type]


def test_equal_references_with_equal_inputs_are_run_once() -> None:
    others = [
        replace(PROBLEM, task_id="same"),
        replace(PROBLEM, task_id="types", oracle=replace(PROBLEM.oracle, inputs=((2.0,), (1.5,)))),
        replace(PROBLEM, task_id="entry", entry_point="g"),
        replace(PROBLEM, task_id="program", oracle=replace(PROBLEM.oracle, program=SQUARE + "\n")),
    ]
    box = Box()
    found = answered([PROBLEM, *others], box)  # type: ignore[arg-type]
    assert len(box.jobs) == 4
    assert [len(problem.tests) for problem in found] == [2] * 5
    assert found[2].tests[0].args == (2.0,) and type(found[2].tests[0].args[0]) is float  # type: ignore[union-attr]


def test_a_judge_of_its_own_makes_the_tests() -> None:
    oracle = replace(PROBLEM.oracle, judge=lambda args, value: CodeTest(f"assert f{args} <= {value}"))
    (found,) = answered([replace(PROBLEM, oracle=oracle)], Box())  # type: ignore[arg-type]
    assert [test.source for test in found.tests] == ["assert f(2,) <= 7", "assert f(1.5,) <= 7"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("seconds", "cpu", "wall"), [(0.1, 4.0, 16.0), (2.0, 16.0, 64.0)])
def test_each_input_may_take_four_times_the_references_time(seconds: float, cpu: float, wall: float) -> None:
    problem = replace(PROBLEM, limits=Limits(4.0, 16.0, 4096))
    box = Box(seconds)
    (found,) = answered([problem], box)  # type: ignore[arg-type]
    assert found.limits == Limits(cpu, wall, 4096)
    assert box.jobs[0].limits == Limits(60.0, 240.0, 4096)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"inputs": ((object(),),)}, r"task 't': an input cannot cross"),
        ({"judge": lambda args, value: CallTest(args, object())}, r"'t', input 0.*no test can be made of it"),
    ],
)
def test_what_cannot_cross_is_named(change: dict[str, object], why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        answered([replace(PROBLEM, oracle=replace(PROBLEM.oracle, **change))], Box())  # type: ignore[arg-type]


def test_a_long_input_is_shortened_in_the_error() -> None:
    oracle = Oracle("", (("x" * 10_000,),), judge=lambda args, value: CallTest(args, object()))
    with pytest.raises(CodealignError) as caught:
        answered([replace(PROBLEM, oracle=oracle)], Box())  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300


def test_a_problem_whose_oracle_has_not_answered_makes_no_program() -> None:
    with pytest.raises(
        ValueError, match=r"task 't' has an oracle: codegen_eval\.oracles\.answered comes first"
    ):
        PROBLEM.program(SQUARE)
