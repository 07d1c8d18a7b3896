"""How a program's output is compared with the expected one: pure functions on bytes.

Each takes (output, expected, tolerance) and says why the output is not the expected one, "" when it is. The
output is hostile: every comparison takes time linear in the bytes, numbers are never computed from digits or
exponents of unbounded length, and nothing that a program printed is ever an expression. White space is
ASCII's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from itertools import zip_longest

Comparer = Callable[[bytes, bytes, float], str]

_NUMBER = re.compile(
    rb"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.I
)
_DECIMAL = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,18}))?", re.ASCII)
_INFINITE = re.compile(rb"([+-]?)inf(?:inity)?", re.I)
_LONGEST_NUMBER = 1000


def compare_exact(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when equal up to one newline at the very end, else where they differ."""
    got, wanted = output.removesuffix(b"\n"), expected.removesuffix(b"\n")
    if got == wanted:
        return ""
    place = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
    if place is None:
        return f"{len(got)} bytes instead of {len(wanted)}, the same up to the shorter one's end"
    return f"byte {place} differs: {wanted[place : place + 40]!r} expected, got {got[place : place + 40]!r}"


def compare_tokens(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when the tokens are equal, else the first that differs."""
    return _first_difference(output.split(), expected.split(), "token")


def compare_tokens_casefold(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when the tokens are equal but for upper and lower case, by Unicode's rules, else the first that
    is not.
    """
    return _first_difference(output.split(), expected.split(), "token", _same_folded)


def compare_floats(output: bytes, expected: bytes, tolerance: float = 0.0) -> str:
    """Empty when the tokens are equal or close, else the first that is not."""
    return _first_difference(output.split(), expected.split(), "token", lambda a, b: _close(a, b, tolerance))


def compare_lines(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when the lines are equal without white space at their ends and without blank lines at the start
    and end of the output, else the first that differs.
    """
    return _first_difference(_stripped_lines(output), _stripped_lines(expected), "line")


def compare_decimal_lines(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """As `compare_lines`, but two lines are also equal when both are made of decimal numbers of the same
    values: "1.50" is "1.5" and "1e2" is "100". There is no tolerance (LiveCodeBench, testing_util.py,
    grade_stdio).

    Departs in two points: `1_0` and digits of other scripts are no numbers, and a NaN is an unequal number
    instead of an error.
    """
    return _first_difference(_stripped_lines(output), _stripped_lines(expected), "line", _same_decimals)


def compare_float_lines(output: bytes, expected: bytes, tolerance: float = 0.0) -> str:
    """As `compare_lines`, but two lines that are one number each may differ by `tolerance`, absolutely. NaN
    and infinity equal only their own text.
    """

    def same(a: bytes, b: bytes) -> bool:
        x, y = _float(a), _float(b)
        return x is not None and y is not None and abs(x - y) <= tolerance

    return _first_difference(_stripped_lines(output), _stripped_lines(expected), "line", same)


def compare_set(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when both have the same tokens, whatever their order and number."""
    return _same_sets(set(output.split()), set(expected.split()), "tokens")


def compare_line_set(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when both have the same lines, whatever their order and number; blank lines do not count, and a
    line is its tokens in their order.
    """
    got, wanted = ({b" ".join(line.split()) for line in text.split(b"\n")} for text in (output, expected))
    return _same_sets(got - {b""}, wanted - {b""}, "lines")


def compare_apps(output: bytes, expected: bytes, _tolerance: float = 0.0) -> str:
    """Empty when the released judge of APPS (eval/testing_util.py) would let the output pass. What its dozen
    comparisons, each looser than the one before, come to is that one of these holds:

    - As many lines, each one number, close as by `numpy.allclose` (relative 1e-5, absolute 1e-8).
    - The lines are the same sets of tokens: order and repetitions of tokens in a line and of lines are free.
    - Likewise with all tokens numbers rounded to three digits.

    Blank lines do not count (there, an expected line of white space alone does). So wrong order and
    duplicates are accepted: report a score by this one as such.
    """
    got, wanted = (
        [line.split() for line in text.splitlines() if line.split()] for text in (output, expected)
    )
    if _token_sets(got) == _token_sets(wanted) or _all_close(got, wanted):
        return ""
    numbers = _rounded(wanted)
    others = None if numbers is None else _rounded(got)
    if numbers is not None and others is not None and _token_sets(others) == _token_sets(numbers):
        return ""
    return "none of the judge's comparisons holds: other numbers, and other sets of tokens a line"


COMPARE: dict[str, Comparer] = {
    "tokens": compare_tokens,
    "exact": compare_exact,
    "floats": compare_floats,
    "lines": compare_lines,
    "decimal_lines": compare_decimal_lines,
    "float_lines": compare_float_lines,
    "tokens_casefold": compare_tokens_casefold,
    "set": compare_set,
    "line_set": compare_line_set,
    "apps": compare_apps,
}


def _first_difference(
    got: list[bytes], wanted: list[bytes], what: str, same: Callable[[bytes, bytes], bool] | None = None
) -> str:
    if got == wanted:
        return ""
    for place, (a, b) in enumerate(zip_longest(got, wanted)):
        if a is None or b is None:
            return f"{len(got)} {what}s instead of {len(wanted)}"
        if a != b and (same is None or not same(a, b)):
            return f"{what} {place} differs: {b[:60]!r} expected, got {a[:60]!r}"
    return ""


def _stripped_lines(text: bytes) -> list[bytes]:
    return [line.strip() for line in text.strip().split(b"\n")]


def _same_folded(a: bytes, b: bytes) -> bool:
    return _folded(a) == _folded(b)


def _folded(token: bytes) -> str:
    return token.decode("utf-8", "surrogateescape").casefold()


def _same_decimals(a: bytes, b: bytes) -> bool:
    got, wanted = a.split(), b.split()
    if len(got) != len(wanted):
        return False
    return all(
        x is not None and x == y
        for x, y in ((_decimal(x), _decimal(y)) for x, y in zip(got, wanted, strict=True))
    )


def _decimal(token: bytes) -> tuple[bytes, bytes, int] | None:
    """Sign, significant digits and exponent: equal for equal numbers. None for what is no decimal number.

    No arithmetic on the digits: `decimal` raises for some exponents, and a number written out may be of any
    size.
    """
    if infinite := _INFINITE.fullmatch(token):
        return _sign(infinite[1]), b"inf", 0
    found = _DECIMAL.fullmatch(token)
    if found is None or not (found[2] or found[3]):
        return None
    fraction = found[3] or b""
    digits = (found[2] + fraction).lstrip(b"0")
    if not digits:
        return b"", b"", 0
    short = digits.rstrip(b"0")
    exponent = int(found[4] or 0) - len(fraction) + len(digits) - len(short)
    return _sign(found[1]), short, exponent


def _sign(written: bytes) -> bytes:
    return b"-" if written == b"-" else b""


def _close(a: bytes, b: bytes, tolerance: float) -> bool:
    x, y = _float(a), _float(b)
    if x is None or y is None:
        return False
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    if math.isinf(x) or math.isinf(y):
        return x == y
    return abs(x - y) <= tolerance * max(1.0, abs(y))


def _float(token: bytes) -> float | None:
    """The number that a token is; None for what is none or is longer than any number needs to be."""
    return float(token) if len(token) <= _LONGEST_NUMBER and _NUMBER.fullmatch(token) else None


def _same_sets(got: set[bytes], wanted: set[bytes], what: str) -> str:
    if got == wanted:
        return ""
    missing, odd = wanted - got, got - wanted
    if missing:
        return f"{len(missing)} of {len(wanted)} {what} are missing, as {min(missing)[:60]!r}"
    return f"{len(odd)} {what} are not expected, as {min(odd)[:60]!r}"


def _token_sets(lines: Iterable[Iterable[bytes]]) -> set[frozenset[bytes]]:
    return {frozenset(line) for line in lines}


def _all_close(got: list[list[bytes]], wanted: list[list[bytes]]) -> bool:
    if len(got) != len(wanted) or any(len(line) != 1 for line in (*got, *wanted)):
        return False
    return all(_numpy_close(_float(a[0]), _float(b[0])) for a, b in zip(got, wanted, strict=True))


def _numpy_close(x: float | None, y: float | None) -> bool:
    """`numpy.isclose(x, y)` with its own tolerances: NaN is close to nothing, infinity to itself."""
    if x is None or y is None:
        return False
    return x == y or (math.isfinite(x) and math.isfinite(y) and abs(x - y) <= 1e-8 + 1e-5 * abs(y))


def _rounded(lines: list[list[bytes]]) -> list[list[bytes]] | None:
    """The tokens as numbers of three decimal places; None where one is no number or NaN.

    As text again: unlike that of text, the hash of a number can be chosen, and sets of such take quadratic
    time.
    """
    found: list[list[bytes]] = []
    for line in lines:
        found.append([])
        for token in line:
            number = _float(token)
            if number is None or math.isnan(number):
                return None
            found[-1].append(repr(round(number, 3) + 0.0).encode())
    return found
