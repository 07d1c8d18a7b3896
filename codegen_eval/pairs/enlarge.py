"""Larger inputs of the same kind: what makes a slow program show itself.

An input of a test is enlarged by a factor: numbers are scaled, strings repeated, lists and tuples repeated or
continued, dictionaries and sets continued with new keys. Types stay, elements stay in their range where the
collection is repeated, and a sorted list stays sorted.
"""

from __future__ import annotations

from typing import Any, Literal

Growth = Literal["repeat", "continue"]
MAX_CHARS = 200_000
# Numbers are often depths of recursion or exponents: beyond this even right programs fail or never end.
MAX_NUMBER_FACTOR = 80


def _shifted(value: Any, values: list[Any], round_: int) -> Any:
    """A further element like `value`, for the round-th continuation of `values`; the same one where nothing
    is known.
    """
    if round_ == 0 or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and all(isinstance(v, (int, float)) for v in values):
        return value + round_ * (max(values) - min(values) + 1)
    if isinstance(value, str):
        return f"{value}{round_}"
    return value


def _sequence(values: list[Any], factor: int, growth: Growth) -> list[Any]:
    if growth == "continue" and all(type(v) in (int, float) for v in values):
        return [_shifted(v, values, i) for i in range(factor) for v in values]
    larger = values * factor
    try:
        return sorted(larger) if len(values) > 1 and values == sorted(values) else larger
    except TypeError:
        return larger


def enlarge(value: Any, factor: int, growth: Growth = "repeat") -> Any:
    """A larger value of the same type.

    Args:
        value: Literal data.
        factor: How many times as large; numbers grow by `MAX_NUMBER_FACTOR` at most.
        growth: `repeat` keeps the elements of lists, `continue` goes on beyond them where they are numbers.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        return value * min(factor, MAX_NUMBER_FACTOR)
    if isinstance(value, (str, bytes)):
        return value * factor
    if isinstance(value, (list, tuple)):
        return type(value)(_sequence(list(value), factor, growth))
    if isinstance(value, (set, frozenset)):
        members = sorted(value, key=repr)
        return type(value)(_shifted(v, members, i) for i in range(factor) for v in members)
    if isinstance(value, dict):
        keys = list(value)
        return {_shifted(k, keys, i): v for i in range(factor) for k, v in value.items()}
    return value


def enlarged_calls(calls: list[tuple[Any, ...]], factor: int, limit: int) -> list[tuple[Any, ...]]:
    """Up to `limit` enlarged argument tuples, without repetition; inputs that do not grow or grow too big are
    left out.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for args in calls:
        if sum(len(repr(a)) for a in args) * factor > MAX_CHARS:
            continue
        for growth in ("repeat", "continue"):
            larger = tuple(enlarge(a, factor, growth) for a in args)
            if larger != args:
                found.setdefault(repr(larger), larger)
    return list(found.values())[:limit]
