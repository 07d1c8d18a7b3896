"""Comparison of an answer with the expected value, in the caller's process.

The rules, in one place:

- Plain data: Python's `==` on exact builtin types. `1 == 1.0 == True`, `-0.0 == 0.0`, a list is no tuple, NaN
  equals nothing (itself neither), sets have no order, dicts neither, ints are compared whole however large.
- Declared types: their own `==`. `Counter` and `OrderedDict` equal a dict of the same content, two
  `OrderedDict`s have an order too, missing counts are zeros, `Decimal("1.0") == Decimal("1.00")`, a
  namedtuple equals a tuple. Records, enum members, returned exceptions and drained iterators: `values.py`.
- A numpy array equals an array of the same shape whose elements are all equal, whatever the number types;
  NaN equals nothing there either. It never equals a list or a number. A numpy scalar is compared as a number.
- With a tolerance, numbers anywhere (dict values, array elements, `Decimal`s) may differ by that much,
  absolutely or relative to the larger one (complex numbers: relative to the expected one); closeness is
  worked out in float64, beyond its range only equal numbers are close. Keys, set members, texts and dates
  must be equal.

Every comparison takes time linear in the answer's bytes up to the first difference: an answer that is far
longer than the expected value is not read, the decoder bounds what could cost more (hash collisions, digits,
depth), and arrays are compared at equal shapes only.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, OrderedDict, deque
from typing import Any

from . import codec, extras
from .values import Drained, EnumValue, ErrorValue, Record

_PLAIN_NUMBERS = frozenset((bool, int, float, complex))
_SEQUENCES = (list, tuple, deque)
_NUMPY_CODES = frozenset(b"ng")


class Expected:
    """The expected value of one test, with what its comparison needs, worked out once.

    Args:
        value: As it is after crossing: what `codec.crossed` gave.
        tolerance: 0 for `==`; else numbers may differ by that much, absolutely or relatively.
        size: Bytes that it takes. An answer that takes far more is not even read: an equal one is of about
            the same size. The factor is for other types of number (`True` takes a byte, `Fraction(1)` 24).
        tuple_as_list: An answer that is a tuple counts as the list of its items.
    """

    __slots__ = ("_by_item", "_bytes", "_longest", "_tolerance", "_tuple_as_list", "_value")

    def __init__(
        self, value: Any, tolerance: float = 0.0, size: int = codec.MAX_BYTES, tuple_as_list: bool = False
    ) -> None:
        self._value = value
        self._tuple_as_list = tuple_as_list
        self._longest = min(codec.MAX_BYTES, 65_536 + 64 * size)
        self._tolerance = tolerance
        self._by_item = tolerance != 0 or _has_numpy(value)
        self._bytes = _certain(value)

    def matches(self, answer: bytes) -> bool:
        """Whether an encoded answer, as a solution's process sent it, equals the expected value."""
        if answer == self._bytes:
            return True
        numpy_came = False

        def build(code: int, fields: list[Any]) -> Any:
            nonlocal numpy_came
            numpy_came = numpy_came or code in _NUMPY_CODES
            return extras.build(code, fields)

        try:
            value = codec.decode(answer, build, self._longest)
        except codec.CodecError:
            return False
        if self._tuple_as_list and type(value) is tuple:
            value = list(value)
        return self._equals(value, self._by_item or numpy_came)

    def equals(self, value: Any) -> bool:
        """Whether plain data of bounded size, however they came here, equal the expected value."""
        return self._equals(value, self._by_item)

    def _equals(self, value: Any, by_item: bool) -> bool:
        try:
            if by_item:
                return _same(value, self._value, self._tolerance)
            return bool(value == self._value)
        except (ArithmeticError, RecursionError, TypeError, ValueError):
            return False  # signalling NaNs and their like: what cannot be compared is not equal


def _certain(value: Any) -> bytes | None:
    """The wire form that is equal for certain, so that most right answers need not be decoded; None where
    there is none, as NaN equals nothing.
    """
    if not codec.is_plain(value):
        return None
    try:
        data = codec.encode(value)
    except codec.CodecError:
        return None
    return data if codec.decode(data) == value else None


def _has_numpy(value: Any) -> bool:
    """Whether numpy data are anywhere in it: their own `==` gives arrays, and broadcasts."""
    numpy = sys.modules.get("numpy")
    if numpy is None or codec.is_plain(value):
        return False
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, (numpy.ndarray, numpy.generic)):
            return True
        stack.extend(_parts(item))
    return False


def _parts(value: Any) -> Any:
    """What a container holds and compares item by item; set members and keys cannot be arrays."""
    kind = type(value)
    if kind in _PLAIN_NUMBERS or kind is str:
        return ()
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, _SEQUENCES) or kind is _ITEMS:
        return value
    if kind is Record:
        return value.fields.values()
    if kind is ErrorValue:
        return value.args
    if kind is Drained:
        return value.items
    return (value.value,) if kind is EnumValue else ()


_ITEMS: Any = type({}.items())


def _same(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality item by item."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if type(value) is numpy.ndarray or type(expected) is numpy.ndarray:
            return type(value) is type(expected) and _same_arrays(value, expected, tolerance)
        value, expected = (_builtin(x) if isinstance(x, numpy.generic) else x for x in (value, expected))
    if _is_number(value) and _is_number(expected):
        return _close(value, expected, tolerance)
    if isinstance(value, dict) and isinstance(expected, dict):
        return _same_dicts(value, expected, tolerance)
    for family in _SEQUENCES:
        if isinstance(value, family) and isinstance(expected, family):
            return _same_items(value, expected, tolerance)
    if type(value) is not type(expected):
        # What is left of numpy here are dates and spans, whose `==` converts and broadcasts.
        dates = () if numpy is None else (numpy.datetime64, numpy.timedelta64)
        return not isinstance(value, dates) and not isinstance(expected, dates) and bool(value == expected)
    if type(value) is Record:
        return value.type_name == expected.type_name and _same_dicts(value.fields, expected.fields, tolerance)
    if type(value) is ErrorValue:
        return value.type_name == expected.type_name and _same_items(value.args, expected.args, tolerance)
    if type(value) is Drained:
        return value.complete == expected.complete and _same_items(value.items, expected.items, tolerance)
    if type(value) is EnumValue:
        alike = (value.type_name, value.name, value.plain) == (
            expected.type_name,
            expected.name,
            expected.plain,
        )
        return (alike or (value.plain and expected.plain)) and _same(value.value, expected.value, tolerance)
    if type(value) is _ITEMS:
        return _same_dicts(dict(value), dict(expected), tolerance)
    return bool(value == expected)


def _same_items(value: Any, expected: Any, tolerance: float) -> bool:
    return len(value) == len(expected) and all(
        _same(a, b, tolerance) for a, b in zip(value, expected, strict=True)
    )


def _same_dicts(value: Any, expected: Any, tolerance: float) -> bool:
    if type(value) is Counter and type(expected) is Counter:
        return all(_same(value[k], expected[k], tolerance) for k in value.keys() | expected.keys())
    if type(value) is OrderedDict and type(expected) is OrderedDict and list(value) != list(expected):
        return False
    return value.keys() == expected.keys() and all(_same(value[k], expected[k], tolerance) for k in expected)


def _builtin(scalar: Any) -> Any:
    """A numpy scalar as a Python value; dates, spans and what is wider than float64 stay as they are."""
    return scalar if scalar.dtype.kind in "mM" else scalar.item()


def _is_number(value: Any) -> bool:
    if type(value) in _PLAIN_NUMBERS:
        return True
    numpy, decimal, fractions = (sys.modules.get(name) for name in ("numpy", "decimal", "fractions"))
    return bool(
        (numpy is not None and isinstance(value, numpy.inexact))
        or (decimal is not None and type(value) is decimal.Decimal)
        or (fractions is not None and type(value) is fractions.Fraction)
    )


def _close(value: Any, expected: Any, tolerance: float) -> bool:
    if bool(value == expected):
        return True
    if not tolerance:
        return False
    if _is_complex(value) or _is_complex(expected):
        a, b = complex(value), complex(expected)
        return bool(abs(a - b) <= tolerance * max(1.0, abs(b)))
    try:
        a, b = float(value), float(expected)
    except OverflowError:
        return False
    # A finite Decimal beyond float64 becomes inf, which is close to another inf.
    if math.isinf(a) or math.isinf(b):
        return False
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or getattr(getattr(value, "dtype", None), "kind", "") == "c"


def _same_arrays(value: Any, expected: Any, tolerance: float) -> bool:
    """Same shape and all elements equal or close."""
    import numpy as np

    if value.shape != expected.shape:
        return False
    kinds = (value.dtype.kind, expected.dtype.kind)
    numbers = all(kind in "biufc" for kind in kinds)
    if not numbers and kinds[0] != kinds[1]:
        return False
    with np.errstate(all="ignore"):
        good = value == expected
        if tolerance and numbers:
            a, b = (x.astype(np.result_type(x.dtype, np.float64)) for x in (value, expected))
            scale = np.maximum(1.0, abs(b))
            if "c" not in kinds:
                scale = np.maximum(scale, abs(a))
            good = good | ((abs(a - b) <= tolerance * scale) & np.isfinite(a) & np.isfinite(b))
    return bool(np.all(good))
