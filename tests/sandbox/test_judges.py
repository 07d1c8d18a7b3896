"""Comparison: Python's own equality for what exists on both sides, and nothing hostile passes or hangs."""

import datetime as dt
import math
import struct
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import CallTest, MatrixJob, codec, judges
from sandbox.matrix import key_of_test as key_of
from sandbox.values import Drained, EnumValue, ErrorValue, NamedRecord, Record
from tests.conftest import cpu_bound


def str_id(value):
    return type(value).__name__


def judged(value, expected, tolerance=0.0):
    return CallTest((), expected, tolerance).judged.matches(codec.encode(value))


NUMBERS = st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, -0.0, 1.0, 2.5, math.nan, 1j, 10**400])
PLAIN = st.recursive(
    NUMBERS | st.none() | st.sampled_from(["", "a", b"a"]),
    lambda x: (
        st.lists(x, max_size=3)
        | st.lists(x, max_size=3).map(tuple)
        | st.sets(NUMBERS, max_size=3)
        | st.frozensets(NUMBERS, max_size=3)
        | st.dictionaries(NUMBERS, x, max_size=3)
        | st.dictionaries(NUMBERS, x, max_size=3).map(OrderedDict)
        | st.dictionaries(NUMBERS, x, max_size=3).map(lambda d: defaultdict(int, d))
        | st.dictionaries(NUMBERS, st.integers(-1, 1), max_size=3).map(Counter)
        | st.lists(x, max_size=3).map(deque)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(PLAIN, PLAIN)
def test_without_arrays_equality_is_pythons_own(a, b):
    a, b = (codec.decode(codec.encode(x)) for x in (a, b))  # no shared NaN, which containers find by identity
    assert judged(a, b) is bool(a == b)
    # The way item by item, taken for tolerances and arrays, agrees with it.
    assert judges._same(a, b, 0.0) is bool(a == b)


@dataclass
class Point:
    x: float
    y: object


Pair = namedtuple("Pair", "left right")
COUNTS = Counter("aab")


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "equal"),
    [
        (1, True, 0.0, True),
        (1.0, 1, 0.0, True),
        (-0.0, 0.0, 0.0, True),
        ([1], (1,), 0.0, False),
        (math.nan, math.nan, 0.0, False),
        (math.nan, math.nan, 1e-6, False),
        ([0.1 + 0.2], [0.3], 0.0, False),
        ([0.1 + 0.2], [0.3], 1e-9, True),
        ((0.3,), [0.3], 1e-9, False),
        ({"a": 1.0000001}, {"a": 1}, 1e-6, True),
        ({"a": 1}, {"b": 1}, 1e-6, False),
        ("a", "a", 1e-6, True),
        (1e300, 1.0, 1e-6, False),
        (math.inf, math.inf, 1e-6, True),
        (10**400, 1.5, 0.1, False),
        (10**400, 10**400, 0.1, True),
        (10**400, 10**400 + 1, 0.0, False),
        (1 + 1e-9j, 1, 1e-6, True),
        (COUNTS, {"a": 2, "b": 1}, 0.0, True),
        (COUNTS, Counter(a=2, b=1, c=0), 0.0, True),
        (COUNTS, {"a": 2, "b": 1, "c": 0}, 0.0, False),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), 0.0, False),
        (OrderedDict(a=1, b=2), {"b": 2, "a": 1}, 0.0, True),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), 1e-6, False),
        (defaultdict(list, {1: [2]}), {1: [2]}, 0.0, True),
        (deque([1]), [1], 0.0, False),
        (deque([1], 3), deque([1]), 0.0, True),
        (Decimal("1.0"), Decimal("1.00"), 0.0, True),
        (Decimal("1.0"), 1, 0.0, True),
        (Decimal("0.1"), 0.1, 0.0, False),
        (Decimal("0.1"), 0.1, 1e-9, True),
        (Decimal("1E+9000"), Decimal("2E+9000"), 1e-6, False),
        (Decimal("NaN"), Decimal("NaN"), 0.0, False),
        (Decimal("sNaN"), 1, 0.0, False),
        (Decimal("sNaN"), 1, 1e-6, False),
        (Fraction(1, 3), 1 / 3, 1e-9, True),
        (Fraction(1, 3), Fraction(2, 6), 0.0, True),
        (Fraction(2**9000, 1), 1.0, 1e-6, False),
        (bytearray(b"a"), b"a", 0.0, True),
        (range(3), [0, 1, 2], 0.0, False),
        (range(0, 3, 2), range(0, 4, 2), 0.0, True),
        ({1: 2}.keys(), {1}, 0.0, True),
        ({1: 2.0}.items(), {(1, 2)}, 0.0, True),
        (dt.date(2020, 1, 1), dt.date(2020, 1, 1), 1e-6, True),
        (dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), 0.0, False),  # noqa: DTZ001
        (dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=9))),
         dt.datetime(1, 1, 1, tzinfo=dt.UTC), 0.0, False),
        (Point(1, [2]), Point(1.0, [2]), 0.0, True),
        (Point(1, [2]), Record("Point", {"y": [2], "x": 1}), 0.0, True),
        (Point(1, [2]), Record("Other", {"x": 1, "y": [2]}), 0.0, False),
        (Point(1.0000001, [2]), Point(1, [2]), 1e-6, True),
        (Point(1, [2]), (1, [2]), 0.0, False),
        (Pair(1, 2), (1, 2), 0.0, True),
        (Pair(1, 2), Pair(1, 2.0000001), 1e-6, True),
        ((1, 2), Pair(1, 2), 0.0, True),
        (iter([1, 2]), iter([1, 2]), 0.0, True),
        (iter([1, 2]), [1, 2], 0.0, False),
        (iter([1.0000001]), Drained([1]), 1e-6, True),
        (iter(range(20_000)), Drained(range(10_000)), 0.0, False),
        (iter(range(20_000)), Drained(range(10_000), complete=False), 0.0, True),
        (ValueError("a", 1), ValueError("a", 1), 0.0, True),
        (ValueError("a"), KeyError("a"), 0.0, False),
        (EnumValue("C", "RED", 1), EnumValue("C", "RED", 1), 1e-6, True),
        (EnumValue("C", "RED", 1), 1, 0.0, False),
        (EnumValue("C", "RED", 1, True), 1, 0.0, True),
        (EnumValue("C", "RED", 1, True), 1, 1e-6, True),
    ],
    ids=str_id,
)  # fmt: skip
def test_comparison_is_python_equality_or_within_the_tolerance(value, expected, tolerance, equal):
    assert judged(value, expected, tolerance) is equal


A = np.array


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "equal"),
    [
        (A([1, 2]), A([1.0, 2.0]), 0.0, True),
        (A([1, 2]), A([1, 3]), 0.0, False),
        (A([1, 2]), [1, 2], 0.0, False),
        ([1, 2], A([1, 2]), 0.0, False),
        (A([3]), 3, 0.0, False),
        (A(3), 3, 0.0, False),
        (3, A([3]), 0.0, False),
        ([3], [A([3])], 0.0, False),
        (A([]), A([1]), 0.0, False),
        (A([]), A([]), 0.0, True),
        (A([[1]]), A([1]), 0.0, False),
        (A([np.nan]), A([np.nan]), 0.0, False),
        (A([np.nan]), A([np.nan]), 1e-6, False),
        (A([np.inf, 1.0000001]), A([np.inf, 1]), 1e-6, True),
        (A([np.inf]), A([-np.inf]), 1e-6, False),
        (A([1 + 1e-9j]), A([1]), 1e-6, True),
        (A(["a"]), A(["a"]), 1e-6, True),
        (A(["a"]), A([b"a"]), 0.0, False),
        (A(["1"]), A([1]), 0.0, False),
        (A([True]), A([1]), 0.0, True),
        (A(["2020"], "M8[Y]"), A(["2020-01-01"], "M8[D]"), 0.0, True),
        (A(["NaT"], "M8[Y]"), A(["NaT"], "M8[Y]"), 0.0, False),
        ({"a": [A([1, 2])]}, {"a": [A([1, 2])]}, 0.0, True),
        ((A([1]), 2), (A([1]), 3), 0.0, False),
        (deque([A([1, 2])]), deque([A([1, 2])]), 0.0, True),
        (Point(A([1, 2]), 1), Point(A([1, 2]), 1), 0.0, True),
        (iter([A([1, 2])]), iter([A([1, 2])]), 0.0, True),
        (np.float64(1.5), 1.5, 0.0, True),
        (1.5, np.float64(1.5), 0.0, True),
        (np.float64(0.1 + 0.2), 0.3, 1e-9, True),
        (np.int64(3), 3, 0.0, True),
        (np.float64(1), [1.0], 0.0, False),
        ([1.0], np.float64(1), 0.0, False),
        (np.bool_(True), True, 0.0, True),
        (np.str_("a" * 9), "a" * 9, 0.0, True),
        (np.clongdouble(1), 1.0000001, 1e-6, True),
        ({1}, frozenset([1]), 1e-6, True),
        (np.datetime64("2020"), np.datetime64("2020"), 0.0, True),
        (np.datetime64("2020"), 50, 0.0, False),
        (np.timedelta64(5, "s"), 5.0000001, 1e-3, False),
        ({np.int64(1): 2}, {1: 2}, 0.0, True),
    ],
    ids=str_id,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_arrays_are_equal_when_shape_and_all_elements_are(value, expected, tolerance, equal):
    assert judged(value, expected, tolerance) is equal


def test_broadcasting_makes_no_large_array_and_no_equality():
    tall, wide = np.zeros((400_000, 1), np.int8), np.zeros((1, 400_000), np.int8)
    tracemalloc.start()
    try:
        assert not judged(tall, wide)
        assert not judged([tall], [wide], 1e-6)
        assert not judged(tall, 0)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_answer_far_longer_than_the_expected_one_is_not_read():
    test = CallTest((), {1, 2})
    items = b"".join(codec.encode(k * (2**61 - 1)) for k in range(1, 1000))
    hostile = b"e" + struct.pack("<I", 999) + items
    for data in (hostile, b"l" + struct.pack("<I", 2**21) + b"n" * 2**21):
        with cpu_bound(0.2):
            assert not test.judged.matches(data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([True] * 1000, [Fraction(1)] * 1000),
        ([Fraction(1)] * 1000, [True] * 1000),
        ([Decimal("1." + "0" * 50)] * 1000, [True] * 1000),
        ([complex(1)] * 1000, [True] * 1000),
        ([np.longdouble(1)] * 1000, [True] * 1000),
        (np.ones(10_000, complex), np.ones(10_000, bool)),
        (Counter(dict.fromkeys(range(1000), 0)), Counter()),
        ("ż" * 100_000, "ż" * 100_000),
    ],
    ids=range(8),
)
def test_equal_answers_that_take_more_bytes_are_read(value, expected):
    assert judged(value, expected)


@pytest.mark.parametrize(
    ("hostile", "expected"),
    [
        ([2**100_000 - 1] * 300, [Decimal("1e99999")] * 300),
        ([Decimal("9" * 29_000)] * 140, [2**99_999] * 140),
        ([Decimal("1e99999")] * 9000, [Fraction(1, 3)] * 9000),
        ([Fraction(2**9999, 3**6000)] * 1000, [1.5] * 1000),
        ([Decimal("1e99999")] * 9000, [complex(1)] * 9000),
        ([Decimal("1e-99999")] * 9000, [1e-300] * 9000),
        ({Decimal(f"{i}e90000"): i for i in range(1, 4000)}, {i: i for i in range(1, 4000)}),
        ({(i,) * 100 for i in range(1000)}, {(i,) * 100 for i in range(1, 1001)}),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("tolerance", [0.0, 1e-6])
def test_hostile_numbers_are_unequal_in_good_time(hostile, expected, tolerance):
    with cpu_bound(5):
        judged(hostile, expected, tolerance)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80), st.sampled_from([0.0, 1e-6]))
@pytest.mark.filterwarnings("ignore")
def test_no_answer_raises_in_the_caller(data, tolerance):
    for expected in (1, [A([1, 2])], Counter("a"), Record("P", {"x": 1})):
        for hostile in (data, b"x\2\0\0\0" + data, codec.encode([expected, expected])[:-3] + data):
            assert judges.Expected(expected, tolerance).matches(hostile) in (True, False)


def test_a_test_keeps_its_data_as_they_are_after_crossing():
    test = CallTest((iter([1]), Point(1, 2)), (i for i in range(2)), kwargs={"n": Pair(1, 2)})
    assert test.args == (Drained([1]), Record("Point", {"x": 1, "y": 2}))
    assert test.expected == Drained([0, 1]) and type(test.kwargs["n"]) is NamedRecord
    assert test.wire() == test.wire()
    error = CallTest((), ValueError("x")).expected
    assert type(error) is ErrorValue and error.text == "x"


def test_hash_and_equality_of_tests_go_by_all_that_they_hold():
    assert hash(CallTest((1,), 2)) == hash(CallTest((1,), 2)) and CallTest((1,), 2) == CallTest((1,), 2)
    assert CallTest((1,), 2, kwargs={"a": 1}) != CallTest((1,), 2)
    long = np.arange(5000)
    other = long.copy()
    other[2500] = 0  # numpy's repr leaves the middle out
    keys = [key_of(CallTest((), e)) for e in (long, other, long.copy(), 10**5000, 0.0, -0.0, 1, True)]
    assert keys[0] == keys[2] and len(set(keys)) == 7
    assert key_of(CallTest((1,), 2, kwargs={"a": 1})) != key_of(CallTest((1,), 2))
    MatrixJob(["x"], [CallTest((), 10**5000)], "f")


@pytest.mark.parametrize("kwargs", [{1: 2}, [1], {"a": object()}, None])
def test_bad_named_arguments_are_refused(kwargs):
    with pytest.raises(ValueError, match="kwargs"):
        CallTest((), 1, kwargs=kwargs)


def test_what_cannot_cross_is_said_by_name():
    for change, name in (({"args": (object(),)}, "args"), ({"expected": [lambda: 1]}, "expected")):
        with pytest.raises(ValueError, match=name):
            CallTest(**({"args": (), "expected": 1} | change))


def test_an_answer_may_be_a_tuple_instead_of_a_list_where_the_test_says_so_but_only_the_outermost():
    def accepts(value, expected, **options):
        return CallTest((), expected, **options).judged.matches(codec.encode(value))

    assert accepts((1, 2), [1, 2], tuple_as_list=True) and not accepts((1, 2), [1, 2])
    assert accepts([1, 2], [1, 2], tuple_as_list=True)
    assert not accepts([(1, 2)], [[1, 2]], tuple_as_list=True)
    assert key_of(CallTest((), [1], tuple_as_list=True)) != key_of(CallTest((), [1]))
