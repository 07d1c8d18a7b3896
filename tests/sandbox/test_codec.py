import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import codec, judges

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
HASHABLE = st.recursive(ATOMS, lambda x: st.lists(x, max_size=4).map(tuple) | st.frozensets(x, max_size=4))
PLAIN = st.recursive(
    HASHABLE,
    lambda x: (
        st.lists(x, max_size=8)
        | st.lists(x, max_size=8).map(tuple)
        | st.dictionaries(HASHABLE, x, max_size=4)
        | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=20,
)


def str_id(value):
    return type(value).__name__


def same(a, b):
    if type(a) is not type(b):
        return False
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@settings(deadline=None, max_examples=300)
@given(PLAIN)
def test_plain_data_come_back_equal_and_of_the_same_types(value):
    codec.check_plain(value)
    assert same(codec.decode(codec.encode(value)), value)


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_bytes_make_the_decoder_do_anything_but_refuse(data, position):
    valid = codec.encode([1, "a", {2: (3.5, b"x")}, [1, 2, 3, 4, 5, 6, 7], 2**99])
    for hostile in (data, valid[: position % len(valid)] + data, data + valid):
        try:
            value = codec.decode(hostile, 10)
        except codec.CodecError:
            continue
        # What is not refused is plain data that can be sent on.
        codec.check_plain(value)
        assert same(codec.decode(codec.encode(value)), value)


@pytest.mark.parametrize(
    "block",
    [
        [1] * 6,
        [0.5, math.inf, -0.0, 1.0, 2.0, 3.0],
        tuple(range(100)),
        [True] * 9,
        [1, True, 2, 3, 4, 5],
        [2**63] + [1] * 9,
        [1.0, 1, 1.0, 1.0, 1.0, 1.0],
    ],
)
def test_blocks_of_one_type_keep_their_types(block):
    assert same(codec.decode(codec.encode(block)), block)


def test_nan_crosses():
    assert math.isnan(codec.decode(codec.encode(math.nan)))


class _List(list):
    pass


class _Int(int):
    pass


@pytest.mark.parametrize(
    "value",
    [
        _List([1]),
        _Int(3),
        object(),
        len,
        iter([]),
        {1: _Int(1)},
        {_Int(1)},
        bytearray(b"x"),
        range(3),
        [[_List()]],
        1 << 100_001,
        type,
    ],
    ids=str_id,
)
def test_what_is_not_exactly_plain_is_refused(value):
    with pytest.raises(codec.CodecError):
        codec.encode(value)
    with pytest.raises(codec.CodecError):
        codec.check_plain(value)


def test_depth_and_size_are_bounded():
    deep = []
    for _ in range(codec.MAX_DEPTH):
        deep = [deep]
    for value in (deep, "x" * codec.MAX_BYTES, [0] * codec.MAX_BYTES, ["ab"] * 10**6):
        with pytest.raises(codec.CodecError):
            codec.encode(value)


@pytest.mark.parametrize(
    "data",
    [
        b"l\xff\xff\xff\xff",
        b"Pq\xff\xff\xff\xff",
        b"s\x05\0\0\0ab",
        b"I\xff\xff\0\0" + b"\1" * 70000,
        b"",
        b"?",
        b"n" * 2,
        b"l\1\0\0\0" * 200 + b"n",
        b"e\1\0\0\0l\0\0\0\0",
        b"Px\0\0\0\0",
    ],
    ids=range(10),
)
def test_malformed_data_are_refused(data):
    with pytest.raises(codec.CodecError):
        codec.decode(data)


def test_a_set_larger_than_expected_is_not_even_built():
    items = b"".join(codec.encode(k * (2**61 - 1)) for k in range(1, 1000))
    hostile = b"e" + struct.pack("<I", 999) + items
    assert not judges.matches(hostile, {1, 2}, 0.0, judges.largest_hashed({1, 2}))


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "equal"),
    [
        (1, True, 0.0, True),
        (1.0, 1, 0.0, True),
        ([1], (1,), 0.0, False),
        (math.nan, math.nan, 0.0, False),
        ([0.1 + 0.2], [0.3], 0.0, False),
        ([0.1 + 0.2], [0.3], 1e-9, True),
        ((0.3,), [0.3], 1e-9, False),
        ({"a": 1.0000001}, {"a": 1}, 1e-6, True),
        ({"a": 1}, {"b": 1}, 1e-6, False),
        ("a", "a", 1e-6, True),
        (1e300, 1.0, 1e-6, False),
        (math.inf, math.inf, 1e-6, True),
        (10**400, 1.5, 0.1, False),
        (1 + 1e-9j, 1, 1e-6, True),
    ],
    ids=str_id,
)
def test_comparison_is_python_equality_or_within_the_tolerance(value, expected, tolerance, equal):
    assert judges.matches(codec.encode(value), expected, tolerance, judges.largest_hashed(expected)) is equal
