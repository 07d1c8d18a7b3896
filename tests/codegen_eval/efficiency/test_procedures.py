"""Efficiency scores by both procedures: cheats, censoring, checkers, broken references."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from codegen_eval.efficiency.ahead import HELD, ahead
from codegen_eval.efficiency.compat import compat
from codegen_eval.efficiency.grading import gradable, weights
from codegen_eval.efficiency.robust import robust
from codegen_eval.efficiency.scores import Score, Scored, Settings
from codegen_eval.errors import CodealignError
from codegen_eval.records import Graded, Problem
from sandbox import Sandbox

pytestmark = pytest.mark.sandbox
HEAD = "def fib(n):\n"
FAST = "    a, b = 0, 1\n    for bit in bin(n)[2:]:\n        a, b = a * (2 * b - a), a * a + b * b\n"
FAST += "        if bit == '1': a, b = b, a + b\n    return a\n"
SLOW = "    a, b = 0, 1\n    for _ in range(n): a, b = b, a + b\n    return a\n"

# By wall time a busy machine stops right programs: a reference that sleeps makes the limit a long one.
PAUSE = "    import time\n    if n > 5000: time.sleep(0.1)\n"
LEVELS = (((0,), (9,)), ((200,), (199,)), ((3000,), (2999,)), ((9000,), (8999,)))
SETTINGS = Settings(repeats=3)
Procedure = Callable[[Problem, Sequence[str], Sandbox, Settings], Scored]
BOTH = pytest.mark.parametrize("procedure", [robust, compat])


def pause(procedure: Procedure) -> str:
    return PAUSE if procedure is compat else ""


def problem(reference: str = FAST, levels: tuple = LEVELS, checker: str = "") -> Problem:
    graded = Graded(levels, (0.0, 3.0, 3.0, 4.0), checker)
    return Problem("t", HEAD, "fib", (), reference, graded=lambda _: graded)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(2) as sandbox:
        yield sandbox


def scores(procedure: Procedure, box: Sandbox, *bodies: str, of: Problem | None = None) -> tuple[Score, ...]:
    of = of or problem(pause(procedure) + FAST)
    return procedure(of, [HEAD + body for body in bodies], box, SETTINGS).scores


@BOTH
def test_right_and_fast_right_and_slow_wrong(box: Sandbox, procedure: Procedure) -> None:
    fast, slow, wrong, late, broken = scores(
        procedure,
        box,
        pause(procedure) + FAST,
        3 * pause(procedure) + SLOW,
        "    return n\n",
        FAST.replace("return a", "return a + (n > 4000)"),
        "    return (",
    )
    assert fast.passed and 0.5 < fast.value < 1.6 and len(fast.seconds) == 4
    # On the smallest level that counts it is as good: the limit is the slowest level's.
    assert slow.passed and slow.value < 0.8 and slow.levels[3] == 0.0
    for bad in (wrong, late, broken):
        assert not bad.passed and bad.value == 0.0 and bad.cause
    assert fast.levels[0] is None


# What the specification names: the first reads the evaluator's frames, the others its comparison and clock.
CHEATS = {
    "frames": "    import sys\n    frame = sys._getframe()\n    while frame:\n"
    "        test = frame.f_locals.get('test')\n        if hasattr(test, 'answer'): return test.answer\n"
    "        frame = frame.f_back\n    return 0\n",
    "shadowed type": "    global type\n    class Any:\n        def __eq__(self, other): return True\n"
    "    def type(x): return 0\n    return Any()\n",
    "metaclass": "    class Meta(type):\n        def __eq__(self, other): return True\n"
    "        __hash__ = None\n    class Any(metaclass=Meta):\n"
    "        def __eq__(self, other): return True\n    return Any()\n",
    "clock": "    import time\n    time.time = lambda: 0.0\n    return fast(n)\n",
    "clock that runs backwards": "    import time\n    it = iter(range(10**6, 0, -1))\n"
    "    time.time = lambda: next(it)\n    return fast(n)\n",
}


@BOTH
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_scores_nothing(box: Sandbox, procedure: Procedure, name: str) -> None:
    source = HEAD.replace("fib", "fast") + FAST + HEAD + CHEATS[name]
    (score,) = procedure(problem(), [source], box, SETTINGS).scores
    assert (score.passed, score.value) == (False, 0.0), score


@BOTH
def test_remembering_answers_gains_nothing(box: Sandbox, procedure: Procedure) -> None:
    source = "import functools\n@functools.cache\n" + HEAD + 3 * pause(procedure) + SLOW
    (score,) = procedure(problem(pause(procedure) + FAST), [source], box, SETTINGS).scores
    assert score.passed and score.levels[3] == 0.0


@BOTH
def test_a_program_that_never_ends_on_large_inputs_is_right_and_censored(
    box: Sandbox, procedure: Procedure
) -> None:
    (score,) = scores(procedure, box, "    while n > 5000: pass\n" + FAST)
    assert score.passed and score.levels[3] == 0.0 and score.seconds[3] is None
    assert score.levels[1] is not None and score.levels[1] > 0.3 and score.cause


@BOTH
def test_one_that_never_ends_on_the_smallest_is_wrong(box: Sandbox, procedure: Procedure) -> None:
    (score,) = scores(procedure, box, "    while n == 9: pass\n" + FAST)
    assert not score.passed


def test_a_program_that_swallows_the_alarm_is_ended(box: Sandbox) -> None:
    spin = "    def spin():\n        while True: pass\n"
    swallow = "    while n > 5000:\n        try: spin()\n        except Exception: pass\n"
    (score,) = scores(compat, box, spin + swallow + FAST)
    assert score.passed and score.levels[3] == 0.0 and score.cause == "stopped: timeout"


def test_printing_is_no_fault_for_robust_and_one_by_the_authors_procedure(box: Sandbox) -> None:
    body = "    print('debugging')\n" + FAST
    assert scores(robust, box, body)[0].passed
    assert not scores(compat, box, body)[0].passed


@BOTH
def test_a_checker_of_the_benchmark_decides_where_there_is_one(box: Sandbox, procedure: Procedure) -> None:
    checker = "def __check(input, answer, output):\n    return type(output) in (int, float) and "
    checker += "abs(answer - output) < 0.5\n"
    of = problem(checker=checker)
    near, far = scores(
        procedure, box, FAST.replace("return a", "return a + 0"), "    return 10.0 ** 6\n", of=of
    )
    assert near.passed and not far.passed
    (raises,) = scores(procedure, box, "    return 'text'\n", of=of)
    assert not raises.passed


@BOTH
def test_equality_is_of_value_and_type(box: Sandbox, procedure: Procedure) -> None:
    of = problem(reference="    return n\n", levels=tuple(((float(i),),) for i in range(4)))
    (score,) = scores(procedure, box, "    return int(n)\n", of=of)
    assert not score.passed


@BOTH
def test_a_reference_that_fails_is_said(box: Sandbox, procedure: Procedure) -> None:
    with pytest.raises(
        CodealignError, match="t: the reference itself fails on level 1, test 0: runtime_error Ze"
    ):
        scores(procedure, box, FAST, of=problem("    return 0 if n < 100 else 1 // 0\n"))
    with pytest.raises(CodealignError, match="no graded inputs or no reference"):
        procedure(Problem("t", HEAD, "fib", (), FAST), [HEAD + FAST], box, SETTINGS)


@BOTH
def test_methods_are_entry_points_too(box: Sandbox, procedure: Procedure) -> None:
    head = "class Solution:\n    def fib(self, n):\n"
    body = "".join("    " + line for line in FAST.splitlines(keepends=True))
    graded = Graded(LEVELS, (0.0, 3.0, 3.0, 4.0))
    of = Problem("t", head, "Solution.fib", (), body, graded=lambda _: graded)
    (score,) = procedure(of, [head + body], box, SETTINGS).scores
    assert score.passed and score.value > 0.5, score


def test_weights_of_levels() -> None:
    assert weights(4) == (0.0, 3.0, 3.0, 4.0) and weights(1) == (1.0,) and weights(3) == (0.0, 1.0, 1.0)
    assert not gradable(Problem("t", "", "f", (), "x")) and gradable(problem())


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_steps_ahead_keep_order_and_errors_in_their_turn(at_once: int) -> None:
    made: list[int] = []

    def make(n: int) -> int:
        made.append(n)
        return 10 // (3 - n)

    found = ahead(make, range(99), at_once)
    assert [next(found) for _ in range(3)] == [3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert max(made) < 4 + HELD * at_once


def test_steps_behind_a_slow_one_are_made_while_it_is_waited_for() -> None:
    others = threading.Event()

    def make(n: int) -> int:
        if n == 0:
            assert others.wait(20), "nothing else was made meanwhile"
        elif n == 3:
            others.set()
        return n

    assert list(ahead(make, range(9), 2)) == list(range(9))
