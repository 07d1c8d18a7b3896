"""What crosses: values come back equal and of the same types; hostile bytes do nothing but be refused."""

import contextlib
import datetime as dt
import enum
import math
import struct
import sys
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import codec, extras
from sandbox.values import Drained, EnumValue, ErrorValue, NamedRecord, Record
from tests.conftest import cpu_bound

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**90), 2**90)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
ZONES = st.none() | st.builds(
    dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)), st.text(max_size=9)
)
SCALARS = (
    st.decimals(allow_nan=False)
    | st.fractions()
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 99))
    | st.builds(EnumValue, st.text(max_size=9), st.text(max_size=9), ATOMS)
    | st.sampled_from(
        [np.int8(-3), np.float32(0.1), np.bool_(True), np.datetime64("2020-01-01"), np.str_("é")]
    )
)
HASHABLE = st.recursive(
    ATOMS | SCALARS, lambda x: st.lists(x, max_size=4).map(tuple) | st.frozensets(x, max_size=4)
)
NAMES = st.text(max_size=9)
VALUES = st.recursive(
    HASHABLE | st.binary().map(bytearray),
    lambda x: (
        st.lists(x, max_size=8)
        | st.lists(x, max_size=8).map(tuple)
        | st.lists(x, max_size=8).map(Drained)
        | st.lists(x, max_size=8).map(lambda items: deque(items, 20))
        | st.dictionaries(HASHABLE, x, max_size=4)
        | st.dictionaries(HASHABLE, x, max_size=4).map(OrderedDict)
        | st.dictionaries(HASHABLE, x, max_size=4).map(lambda items: defaultdict(list, items))
        | st.sets(HASHABLE, max_size=4)
        | st.builds(Counter, st.dictionaries(HASHABLE, st.integers(), max_size=4))
        | st.builds(Record, NAMES, st.dictionaries(NAMES, x, max_size=4))
        | st.builds(NamedRecord, NAMES, st.dictionaries(NAMES, x, max_size=4))
        | st.builds(ErrorValue, NAMES, st.lists(x, max_size=4).map(tuple), st.text(max_size=9))
    ),
    max_leaves=10,
)


def str_id(value):
    return type(value).__name__


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) in (dict, OrderedDict, defaultdict):
        return a == b and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def again(value):
    return codec.decode(codec.encode(value))


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_values_come_back_equal_and_of_the_same_types(value):
    assert same(again(value), value)


@dataclass
class Point:
    x: int
    y: list
    cache: int = field(default=0, compare=False)


Pair = namedtuple("Pair", "left right")


class Colour(enum.Enum):
    RED = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Own(Exception):
    pass


@pytest.mark.parametrize(
    ("value", "crossed"),
    [
        (Point(1, [2]), Record("Point", {"x": 1, "y": [2]})),
        (Pair(1, "b"), NamedRecord("Pair", {"left": 1, "right": "b"})),
        (Colour.RED, EnumValue("Colour", "RED", (1, 2))),
        (Level.HIGH, EnumValue("Level", "HIGH", 3, True)),
        (Own("text", 4), ErrorValue("Own", ("text", 4), "('text', 4)")),
        ((i * i for i in range(3)), Drained([0, 1, 4])),
        (iter([[1]]), Drained([[1]])),
        (map(str, [1]), Drained(["1"])),
        (count(), Drained(range(extras.MAX_ITEMS), complete=False)),
        (iter(range(extras.MAX_ITEMS)), Drained(range(extras.MAX_ITEMS))),
    ],
    ids=str_id,
)
def test_objects_cross_as_what_they_hold(value, crossed):
    got = again(value)
    assert type(got) is type(crossed) and got == crossed
    assert again(got) == crossed


def test_fields_of_records_are_attributes_and_their_equality_is_pythons():
    record, pair = again(Point(1, [2])), again(Pair(1, "b"))
    assert (record.x, record.y, pair.right) == (1, [2], "b")
    assert pair == (1, "b") == Pair(1, "b") and record != Record("Other", record.fields)
    with pytest.raises(AttributeError):
        _ = record.cache
    with pytest.raises(AttributeError):
        _ = pair.other
    assert again(Level.HIGH) == 3 and again(Level.HIGH) < 4 and again(Colour.RED) != (1, 2)
    assert again(iter([1])) != [1] and again(Own(1)) == ErrorValue("Own", (1,))


def test_subtleties_of_declared_types_survive():
    assert again(defaultdict(list))["x"] == [] and again(defaultdict(lambda: 7)).default_factory is None
    assert again(deque([1, 2], 3)).maxlen == 3 and again(deque()).maxlen is None
    assert list(again(OrderedDict([("b", 1), ("a", 2)]))) == ["b", "a"]
    moved = OrderedDict(a=1, b=2)
    moved.move_to_end("a")
    assert list(again(moved)) == ["b", "a"]
    assert str(again(Decimal("1.00"))) == "1.00" and again(Decimal("sNaN12")).is_snan()
    late = dt.datetime(2020, 1, 1, fold=1, tzinfo=dt.timezone(dt.timedelta(hours=1), "X"))
    assert again(late).fold == 1 and again(late).tzname() == "X"
    assert again({"a": [1]}.items()) == {"a": [1]}.items() and again({1: 2}.keys()) == {1}
    assert list(again({1: 2}.values())) == [2] and type(again({1: 2}.values())) is type({}.values())


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6).reshape(2, 3),
        np.array([[1.5, np.inf]], ">f4"),
        np.array([True, False]),
        np.array(["a", "żó"]),
        np.array([b"x", b"yz"]),
        np.array(5),
        np.zeros((0, 7), np.complex64),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([3], "m8[25s]"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3))[:, ::2],
        np.array([0.1], np.longdouble),
        np.array([1, 2], np.float16),
    ],
    ids=lambda a: str(a.dtype),
)
def test_arrays_keep_their_type_shape_and_elements(array):
    got = again(array)
    assert got.dtype == array.dtype and got.shape == array.shape and got.tobytes() == array.tobytes()
    got[...] = got  # its own memory


def test_nan_crosses():
    assert math.isnan(again(math.nan)) and again(Decimal("NaN")).is_nan()
    assert np.isnan(again(np.array([np.nan]))).all() and np.isnan(again(np.float64("nan")))


class _List(list):
    pass


class _Int(int):
    pass


class _Decimal(Decimal):
    pass


class _Counter(Counter):
    pass


class _Array(np.ndarray):
    pass


class _Zone(dt.tzinfo):
    pass


@pytest.mark.parametrize(
    "value",
    [
        _List([1]),
        _Int(3),
        object(),
        len,
        {1: _Int(1)},
        {_Int(1)},
        [[_List()]],
        1 << 100_001,
        type,
        _Decimal(1),
        _Counter(),
        np.zeros(2).view(_Array),
        np.ma.array([1]),
        np.array([object()]),
        np.zeros(2, [("a", int)]),
        np.broadcast_to(np.zeros(1), (10**6, 10**6)),
        np.zeros(codec.MAX_BYTES + 1, np.uint8),
        dt.datetime(2020, 1, 1, tzinfo=_Zone()),
        Decimal("1e200000"),
        Decimal("1" * 30_001),
        Fraction(1, 3**9000),
        [deque(), lambda: 1],
        iter([object()]),
        iter(["x" * 10**6] * 9),
        Point(object(), 1),
        memoryview(b"x"),
    ],
    ids=str_id,
)
def test_what_is_not_exactly_of_a_declared_type_is_refused(value):
    with pytest.raises(codec.CodecError):
        codec.encode(value)
    with pytest.raises(codec.CodecError):
        codec.check_plain(value)


def test_depth_and_size_are_bounded():
    deep, queue = [], deque()
    for _ in range(codec.MAX_DEPTH):
        deep, queue = [deep], deque([queue])
    for value in (deep, queue, "x" * codec.MAX_BYTES, [0] * codec.MAX_BYTES, ["ab"] * (codec.MAX_BYTES // 4)):
        with pytest.raises(codec.CodecError):
            codec.encode(value)


def extra(code, *fields):
    body = b"".join(field if type(field) is bytes else codec.encode(field) for field in fields)
    return b"x" + struct.pack("<I", len(fields)) + code + body


def raw(value):
    return codec.encode(value)


HOSTILE = {
    "length of a list": b"l\xff\xff\xff\xff",
    "length of a block": b"Pq\xff\xff\xff\xff",
    "length of a text": b"s\x05\0\0\0ab",
    "length of an int": b"I\xff\xff\0\0" + b"\1" * 70000,
    "nothing": b"",
    "unknown tag": b"?",
    "bytes left over": b"n" * 2,
    "depth": b"l\1\0\0\0" * 200 + b"n",
    "depth of extras": b"x\1\0\0\0I" * 200 + b"n",
    "unhashable member": b"e\1\0\0\0l\0\0\0\0",
    "unknown block": b"Px\0\0\0\0",
    "unknown extra": extra(b"?"),
    "handle": extra(b"H", 1, "Stack"),
    "name": extra(b"L", "open"),
    "no field": extra(b"C"),
    "field of another type": extra(b"C", [1]),
    "more fields": extra(b"C", {}, {}),
    "object array": extra(b"n", "|O", (1,), raw(b"\0" * 8)),
    "object array by another name": extra(b"n", "O", (1,), raw(b"\0" * 8)),
    "structured array": extra(b"n", "i4,O", (1,), raw(b"\0" * 12)),
    "void array": extra(b"n", "|V8", (1,), raw(b"\0" * 8)),
    "array larger than its bytes": extra(b"n", "<i8", (10**6, 10**6), raw(b"\0" * 8)),
    "array of negative size": extra(b"n", "<i8", (-1, -1), raw(b"\0" * 8)),
    "array of many dimensions": extra(b"n", "<i8", (1,) * 65, raw(b"\0" * 8)),
    "array of empty texts": extra(b"n", "<U0", (2**21, 2**21), raw(b"")),
    "array with a shape of truths": extra(b"n", "<i8", (True,), raw(b"\0" * 8)),
    "empty array of great size": extra(b"n", "<i8", (0, 10**18), raw(b"")),
    "truths that are neither": extra(b"n", "|b1", (1,), raw(b"\7")),
    "characters beyond Unicode": extra(b"n", "<U1", (1,), raw(b"\xff\xff\xff\x7f")),
    "text that is long by its type": extra(b"n", "<U9999999", (1,), raw(b"")),
    "no such unit": extra(b"n", "<M8[0D]", (1,), raw(b"\0" * 8)),
    "scalar of objects": extra(b"g", "|O8", raw(b"\0" * 8)),
    "decimal by another grammar": extra(b"d", "1_000"),
    "decimal of other digits": extra(b"d", "\u0661"),
    "decimal exponent": extra(b"d", "1E999999999"),
    "decimal exponent within six digits": extra(b"d", "1E-999999"),
    "decimal digits": extra(b"d", "1" * 50_000),
    "fraction by zero": extra(b"f", 1, 0),
    "large fraction": extra(b"f", 2**20_000, 3),
    "no such day": extra(b"A", 2020, 2, 30),
    "no such year": extra(b"A", 10**30, 1, 1),
    "time zone of another kind": extra(b"T", 2020, 1, 1, 0, 0, 0, 0, 0, "UTC"),
    "time zone of two days": extra(b"Z", extra(b"S", 2, 0, 0), "x"),
    "time span": extra(b"S", 10**12, 0, 0),
    "deque beyond its length": extra(b"q", [1, 2], 1),
    "deque of negative length": extra(b"q", [], -1),
    "range of step zero": extra(b"r", 1, 2, 0),
    "factory": extra(b"D", "open", {}),
    "record with fewer values": extra(b"R", "P", ("a", "b"), (1,)),
    "record with one name twice": extra(b"R", "P", ("a", "a"), (1, 2)),
    "record with names that are none": extra(b"R", "P", (1,), (1,)),
    "record of a long name": extra(b"R", "P" * 1000, (), ()),
    "number enum of a list": extra(b"E", "C", "A", [1], True),
    "endless items": extra(b"I", [0] * 10_001, True),
    "too many": b"l" + struct.pack("<I", 200_000) + extra(b"q", [], None) * 200_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_malformed_data_are_refused(data):
    with pytest.raises(codec.CodecError):
        codec.decode(data)


SEEDS = [
    [1, "a", {2: (3.5, b"x")}, [1, 2, 3, 4, 5, 6, 7], 2**99],
    [Counter("aab"), deque([1], 4), OrderedDict(a=1), defaultdict(int, {1: 2}), bytearray(b"x"), range(3)],
    [Decimal("1.5E+3"), Fraction(1, 3), dt.datetime(2020, 1, 2, tzinfo=dt.UTC), dt.timedelta(1, 2, 3)],
    [np.arange(4, dtype="i4").reshape(2, 2), np.array(["ab"]), np.float64(3), np.array([True])],
    [Record("P", {"x": 1}), NamedRecord("N", {"y": 2}), EnumValue("E", "A", 1, True), Drained([1])],
]


@settings(deadline=None, max_examples=800)
@given(st.sampled_from(SEEDS), st.data())
def test_no_bytes_make_the_decoder_do_anything_but_refuse(seed, data):
    hostile = bytearray(codec.encode(seed))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(hostile) - 1))
        change = data.draw(st.binary(max_size=6))
        hostile[place : place + data.draw(st.integers(0, 6))] = change or b"\0"
    try:
        value = codec.decode(bytes(hostile))
    except codec.CodecError:
        return
    # What is not refused can be sent on, has the bounds of any value, and comes back as the same bytes.
    again = codec.encode(value)
    assert codec.encode(codec.decode(again)) == again


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_data(data):
    for hostile in (data, b"l\1\0\0\0" + data, b"x\2\0\0\0" + data):
        try:
            value = codec.decode(hostile)
        except codec.CodecError:
            continue
        sent = codec.encode(value)
        assert codec.encode(codec.decode(sent)) == sent


@pytest.mark.parametrize(
    "name",
    [
        "array larger than its bytes",
        "array of empty texts",
        "length of a list",
        "length of a block",
        "endless items",
        "decimal exponent",
    ],
)
def test_bounds_are_checked_before_memory_is_taken(name):
    codec.decode(extra(b"n", "<i8", (1,), raw(b"\0" * 8)))  # numpy is loaded
    tracemalloc.start()
    try:
        with pytest.raises(codec.CodecError):
            codec.decode(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def colliding(number):
    return [k * (2**61 - 1) for k in range(1, number)]


@pytest.mark.parametrize(
    "data",
    [
        b"e" + struct.pack("<I", 99_999) + b"".join(map(raw, colliding(100_000))),
        b"d" + struct.pack("<I", 99_999) + b"".join(raw(k) + b"n" for k in colliding(100_000)),
        extra(b"k", b"d" + struct.pack("<I", 99_999) + b"".join(raw(k) + b"n" for k in colliding(100_000))),
        b"l"
        + struct.pack("<I", 100)
        + (b"e" + struct.pack("<I", 1999) + b"".join(map(raw, colliding(2000)))) * 100,
    ],
    ids=["set", "dict", "view", "many sets"],
)
def test_colliding_hashes_are_refused_in_good_time(data):
    with cpu_bound(3), pytest.raises(codec.CodecError, match="hash"):
        codec.decode(data)


def test_honest_sets_with_some_equal_hashes_cross():
    powers = {2**i for i in range(5000)}  # the hash repeats every 61 powers
    assert again(powers) == powers
    pair = {-1: 1, -2: 2} | dict.fromkeys(range(200))
    assert again(pair) == pair


FULL = codec.MAX_BYTES - 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "item",
    [
        raw(None),
        raw([]),
        raw(set()),
        raw(Fraction(2**9990 + 1, 3**6300)),
        raw(Fraction(1, 3)),
        raw(Decimal("1E+99999")),
        raw(np.array([1])),
        raw(EnumValue("", "", 1)),
        b"e" + struct.pack("<I", 60) + b"".join(map(raw, colliding(61))),
    ],
    ids=[
        "none",
        "list",
        "set",
        "large fraction",
        "fraction",
        "decimal",
        "array",
        "enum",
        "small colliding sets",
    ],
)
def test_the_worst_answer_is_read_in_bounded_time(item):
    number = FULL // len(item)
    data = b"l" + struct.pack("<I", number) + item * number
    found = None
    with cpu_bound(8), contextlib.suppress(codec.CodecError):
        found = codec.decode(data)
    too_many = item[:1] == b"x" and number > codec.MAX_EXTRAS
    assert (found is None) == too_many, "values of declared types are bounded in number"
    assert found is None or len(found) == number


def test_arguments_cross_plain_or_declared():
    for args, kwargs in (((1, [2.5]), {"a": None}), ((Counter("ab"), np.arange(3)), {"d": Decimal(1)})):
        packed = codec.pack_arguments(args, kwargs, codec.is_plain((args, kwargs)))
        got = codec.unpack_arguments(packed)
        assert repr(got) == repr((args, kwargs))


def test_a_fake_numpy_or_decimal_only_sends_what_it_says():
    fake = type("Decimal", (), {"__module__": "decimal"})
    array = type("ndarray", (), {"__module__": "numpy"})
    strange = type("Strange", (), {"__module__": 5})
    for value in (fake(), array(), strange()):
        with pytest.raises(codec.CodecError):
            codec.encode(value)


def test_the_codec_loads_nothing_that_a_plain_program_does_not_need():
    import subprocess

    code = (
        "import sys; from sandbox import codec, extras; codec.decode(codec.encode([1, {'a': (2,)}]));"
        "heavy = {'numpy', 'decimal', 'fractions', 'datetime', 'dataclasses'};"
        "sys.exit(not heavy.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-S", "-c", code]).returncode == 0
