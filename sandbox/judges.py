"""Comparison of an answer with the expected value, in the caller's process."""

from __future__ import annotations

import math
from typing import Any

from . import codec

_NUMBERS = frozenset((bool, int, float, complex))


def largest_hashed(value: Any) -> int:
    """Items of the largest set or dict anywhere in plain data; 0 when there is none."""
    largest = 0
    stack = [value]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            largest = max(largest, len(item))
            stack.extend(item)
            stack.extend(item.values())
        elif kind in (list, tuple, set, frozenset):
            if kind in (set, frozenset):
                largest = max(largest, len(item))
            stack.extend(item)
    return largest


def matches(answer: bytes, expected: Any, tolerance: float, max_hashed: int) -> bool:
    """Whether an encoded answer equals the expected value.

    Args:
        answer: Wire form, as a solution's process sent it.
        expected: Plain data.
        tolerance: 0 for Python's `==`; else numbers may differ by that much, absolutely or relatively.
        max_hashed: `largest_hashed(expected)`; an answer with a larger set or dict cannot be equal.
    """
    try:
        value = codec.decode(answer, max_hashed)
    except codec.CodecError:
        return False
    try:
        return close(value, expected, tolerance) if tolerance else bool(value == expected)
    except (OverflowError, RecursionError):
        return False


def close(value: Any, expected: Any, tolerance: float) -> bool:
    """Equality of plain data where numbers may differ by `tolerance`; keys and set members must be equal
    exactly.
    """
    kind, wanted = type(value), type(expected)
    if kind in _NUMBERS and wanted in _NUMBERS:
        if complex in (kind, wanted):
            return bool(value == expected) or bool(
                abs(value - expected) <= tolerance * max(1.0, abs(expected))
            )
        return bool(value == expected) or math.isclose(value, expected, rel_tol=tolerance, abs_tol=tolerance)
    if kind is not wanted:
        return False
    if kind in (list, tuple):
        return len(value) == len(expected) and all(
            close(a, b, tolerance) for a, b in zip(value, expected, strict=True)
        )
    if kind is dict:
        return value.keys() == expected.keys() and all(
            close(value[k], expected[k], tolerance) for k in expected
        )
    return bool(value == expected)
