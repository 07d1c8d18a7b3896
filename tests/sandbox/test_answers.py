"""Calls whose values are wanted themselves."""

from collections import Counter

import pytest

from sandbox import CallJob, Limits, Sandbox, Verdict

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def box():
    with Sandbox(1, limits=Limits(cpu_seconds=0.5, wall_seconds=10.0)) as sandbox:
        yield sandbox


def values(box, source, *calls):
    (found,) = box.answers([CallJob(source, "f", [(call,) for call in calls])])
    return found


def test_values_come_back_with_their_types(box):
    found = values(box, "from collections import Counter\ndef f(x): return (Counter(x), {x: [1.0]})", "aab")
    assert found[0].value == (Counter("aab"), {"aab": [1.0]}) and type(found[0].value[0]) is Counter
    assert found[0].returned


def test_none_is_a_value_and_an_exception_is_not(box):
    found = values(box, "def f(x):\n    if x: raise KeyError(x)", 0, 1, 0)
    assert [answer.returned for answer in found] == [True, False, True]
    assert found[1].verdict is Verdict.runtime_error and found[1].cause == "KeyError"


def test_calls_after_a_loop_or_a_crash_are_still_made(box):
    source = "import os\ndef f(x):\n    while x == 1: pass\n    if x == 2: os.abort()\n    return x"
    found = values(box, source, 0, 1, 3, 2, 4)
    assert [answer.value for answer in found] == [0, None, 3, None, 4]
    assert [answer.verdict.value for answer in found][1::2] == ["timeout", "runtime_error"]


def test_calls_after_a_failing_one_are_left_out_if_asked(box):
    job = CallJob("def f(x): return 1 // x", "f", [(1,), (0,), (1,)], stop=True)
    (found,) = box.answers([job])
    assert [(answer.value, answer.cause) for answer in found] == [(1, ""), (None, "ZeroDivisionError")]


def test_calls_that_are_not_made_after_three_timeouts_have_an_answer_too(box):
    found = values(box, "def f(x):\n    while True: pass", *range(5))
    assert [(answer.verdict, answer.returned) for answer in found] == [(Verdict.timeout, False)] * 5
    assert found[4].cause == "not made after other timeouts"


def test_what_cannot_cross_is_said(box):
    (found,) = values(box, "def f(x): return object()", 1)
    assert (found.verdict, found.cause, found.value) == (Verdict.wrong_answer, "not plain data", None)


def test_a_program_that_does_not_load_answers_nothing(box):
    found = values(box, "def f(", 1, 2)
    assert [answer.verdict for answer in found] == [Verdict.syntax_error] * 2


def test_jobs_come_in_order_and_none_is_made_without_calls(box):
    jobs = [CallJob("def f(x): return x", "f", [(i,)] * (i % 3)) for i in range(12)]
    found = list(box.answers(jobs))
    assert [[answer.value for answer in row] for row in found] == [[i] * (i % 3) for i in range(12)]
