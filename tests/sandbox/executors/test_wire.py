"""Orders and answers as JSON: what goes in comes out, and nothing else does."""

import contextlib
import json
import math
from collections import Counter, deque
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import (
    CallTest,
    CellResult,
    CodeTest,
    InfraError,
    IOTest,
    Isolation,
    Limits,
    MatrixJob,
    PassMatrix,
    Program,
    Result,
    TimingJob,
    Verdict,
)
from sandbox.executors import wire
from sandbox.executors.orders import Execution, Order, Script
from sandbox.timing import Timing

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=8)
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | texts
    | st.binary(max_size=8)
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.sets(st.integers() | st.binary(max_size=2), max_size=3)
        | st.frozensets(st.text(max_size=2), max_size=3)
    ),
    max_leaves=8,
)
limits = st.none() | st.builds(
    Limits, st.floats(0.01, 100), st.floats(0.01, 100), st.integers(32, 9999), st.integers(1, 9999)
)
tests_ = st.builds(CallTest, st.lists(values, max_size=3).map(tuple), values, st.floats(0, 1)) | st.builds(
    CodeTest, texts, st.booleans()
)
programs = st.builds(Program, texts, st.just("f"), st.lists(tests_, max_size=3).map(tuple), texts, limits)
io_tests = st.builds(
    IOTest,
    texts | st.binary(max_size=8),
    texts | st.binary(max_size=8),
    st.sampled_from(["tokens", "exact", "floats"]),
    args=st.lists(st.text(st.characters(exclude_characters="\0"), max_size=3), max_size=2).map(tuple),
)
whole_programs = st.builds(
    Program,
    texts,
    st.just(""),
    st.lists(io_tests, min_size=1, max_size=3).map(tuple),
    language=st.sampled_from(["python", "cpp"]),
)


def there_and_back(order):
    return wire.order_from_json(wire.loads(wire.dumps(wire.order_to_json(order))))


def exact(value):
    """A value with its types, so that 1, 1.0 and True differ."""
    if isinstance(value, list | tuple):
        return (type(value), [exact(item) for item in value])
    if isinstance(value, dict):
        return (dict, [(exact(key), exact(item)) for key, item in value.items()])
    if isinstance(value, set | frozenset):
        return (type(value), sorted(map(repr, value)))
    return (type(value), value.to_bytes(3000, "big") if type(value) is int and value > 2**64 else repr(value))


@given(programs | whole_programs, st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_program_comes_back_as_it_was(program, all_tests):
    found = there_and_back(Order(program, all_tests))
    assert found == Order(program, all_tests)
    for before, after in zip(program.tests, found.work.tests, strict=True):
        if isinstance(before, CallTest):
            assert exact(after.args) == exact(before.args)
            assert exact(after.expected) == exact(before.expected)


@pytest.mark.parametrize(
    "value",
    [math.nan, -0.0, {True: 1}, [1, 1.0, True], (), {(): frozenset({()})}, 10**5000, "\ud800\0"],
    ids=["NaN", "-0.0", "bool key", "numbers", "empty", "tuple key", "long int", "surrogate"],
)
def test_values_that_json_would_change_keep_their_types(value):
    found = there_and_back(Order(Program("", "f", (CallTest((value,), value),)))).work.tests[0]
    assert exact(found.args) == exact((value,)) and exact(found.expected) == exact(value)


def test_declared_types_and_named_arguments_come_back_as_they_were():
    value = (Counter("aab"), Decimal("1.50"), deque([1, 2]), datetime(2026, 1, 2, tzinfo=UTC))
    test = CallTest((value,), value, kwargs={"key": {1: 2}})
    found = there_and_back(Order(Program("", "f", (test,)))).work.tests[0]
    assert found == test and found.kwargs == {"key": {1: 2}}
    assert [type(item) for item in found.expected] == [Counter, Decimal, deque, datetime]
    assert found.wire() == test.wire()


def test_jobs_and_scripts_come_back_as_they_were():
    jobs = [
        MatrixJob(["a", "b"], [CallTest((1,), (2,)), CodeTest("x")], "f", Limits(2), "m"),
        TimingJob(["a"], "f", [((1,), {2})], 4, Limits(2)),
        Script("print(1)", b"\0\xff", "python", (("a/b", b"\1"),), ("c",), Limits(2)),
    ]
    for job in jobs:
        assert there_and_back(Order(job)) == Order(job)


def test_answers_come_back_as_they_were():
    isolation = Isolation("full", ("user", "pid"), True, 7, "v2", "address space", ("x",))
    cells = (CellResult(Verdict.passed, "", 0.5), CellResult(Verdict.timeout, "cpu", 1.0))
    answers = [
        Result(
            "\ud800", Verdict.timeout, "cpu", "m", cells, 1.5, 2.5, isolation, Limits(2), "forgeable", ("n",)
        ),
        InfraError("x", "gone", 3),
        Execution(Verdict.passed, "", b"\xff", b"", 3, 0.5, (("a", b"\0"),), ("n",)),
    ]
    for answer in answers:
        assert wire.answer_from_json(wire.loads(wire.dumps(wire.answer_to_json(answer)))) == answer
    times = np.array([[1.5, math.nan], [math.inf, 0.0]])
    rounds = np.stack([times, times + 7], axis=-1)
    repeats = np.array([[1, 2], [3, 4]])
    timing = Timing(times, times + 1, times / 3, rounds, times * 2, repeats, None, (0.25, 0.5), 1)
    found = wire.answer_from_json(wire.loads(wire.dumps(wire.answer_to_json(timing))))
    for name in ("seconds", "median", "relative", "rounds", "spread", "repeats"):
        np.testing.assert_array_equal(getattr(found, name), getattr(timing, name))
    assert (found.instructions, found.calibration, found.core) == (None, (0.25, 0.5), 1)
    matrix = PassMatrix(
        np.array([[0, 255], [1, 4]], np.uint8),
        np.array([1, 2]),
        np.array([1, 1]),
        np.array([0, 1, 1]),
        np.array([1, 0]),
    )
    back = wire.answer_from_json(wire.loads(wire.dumps(wire.answer_to_json(matrix))))
    np.testing.assert_array_equal(back.verdicts, matrix.verdicts)
    np.testing.assert_array_equal(back.code_index, matrix.code_index)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1 column 2"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("[NaN]", "NaN is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("1" * 5000, "malformed JSON"),
        (b"\xff", "not UTF-8 at byte 0"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    ],
    ids=["open", "twice", "NaN", "deep", "long int", "no UTF-8", "UTF-16"],
)
def test_what_is_no_json_is_refused_with_the_place(text, said):
    with pytest.raises(wire.WireError, match=said):
        wire.loads(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sorce": ""}, "program: unknown key 'sorce'; did you mean 'source'?"),
        ({"source": None}, "program.source: expected text, found null"),
        ({"tests": {}}, "program.tests: expected a list, found an object"),
        ({"tests": [3]}, "program.tests[0]: expected an object, found a number"),
        (
            {"tests": [{"kind": "cal"}]},
            "tests[0].kind: 'cal' is no kind of test; did you mean 'call'?",
        ),
        ({"tests": [{"kind": "call", "args": [1]}]}, "program.tests[0]: 'expected' is missing"),
        ({"tests": [{"args": 3, "expected": 1}]}, "expected a list of arguments, found a number"),
        ({"tests": [{"args": [], "expected": {"$codec": "!"}}]}, "program.tests[0].expected: not base64"),
        ({"tests": [{"args": [], "expected": {"$codec": "AAAA"}}]}, "program.tests[0].expected: malformed"),
        ({"tests": [{"source": "x", "trusted": 1}]}, "program.tests[0].trusted: expected true or false"),
        ({"tests": [{"source": "x", "trusted": True, "in_process": True}]}, "either trusted or in_process"),
        ({"limits": {"cpu_seconds": True}}, "program.limits.cpu_seconds: expected a number, found true"),
        ({"limits": {"memory_mb": 1.5}}, "program.limits.memory_mb: expected a whole number"),
        ({"entry_point": "a b"}, "entry_point is 'a b'"),
    ],
)
def test_a_wrong_program_is_refused_with_the_place(change, said):
    data = {"source": "", "entry_point": "f", "tests": [], **change}
    with pytest.raises(wire.WireError) as caught:
        wire.from_json(Program, data)
    assert said in str(caught.value)


names = ["kind", "program", "source", "entry_point", "tests", "args", "expected", "$codec", "limits"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(names) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_no_json_of_anybody_raises_anything_but_a_refusal(data):
    for read in (
        lambda: wire.order_from_json(data),
        lambda: wire.answer_from_json(data),
        lambda: wire.from_json(Program, data),
        lambda: wire.from_json(Result, data),
        lambda: wire.open_envelope(json.dumps(data).encode(), "orders"),
    ):
        with contextlib.suppress(wire.WireError):
            read()
