"""Tests of whole programs: text in, text out, and how the two outputs are compared.

The comparison runs in the caller's process on bounded bytes. A checker of one's own runs in the test box.
"""

from __future__ import annotations

import marshal
import math
import re
from dataclasses import dataclass
from itertools import zip_longest

CHECKERS = ("tokens", "exact", "floats", "custom")
MAX_DATA = 64 * 2**20
MAX_CHECKER = 2**20
MAX_ARGS = 2**14
IO_TEST = 5  # kind on the wire
_NUMBER = re.compile(
    rb"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|inf|infinity|nan)", re.ASCII | re.I
)
_LONGEST_NUMBER = 1000


@dataclass(frozen=True, slots=True)
class IOTest:
    """A program's standard input and the output it must print.

    The program must end with exit status 0; what it prints to standard error is not compared.

    Attributes:
        stdin: What it reads; str is UTF-8.
        expected: What it must print. It never enters the solution's box.
        checker: How the outputs are compared:
            `tokens`: equal after splitting at ASCII white space.
            `exact`: equal byte for byte, except that one newline at the very end may be missing or extra.
            `floats`: as `tokens`, but two tokens that are both decimal numbers may differ by `tolerance`,
            absolutely or relative to the expected one. Any NaN equals any NaN; an infinity equals only
            itself. Other tokens must be equal.
            `custom`: `checker_source` decides.
        tolerance: For `floats`.
        checker_source: Python source that defines `check(stdin, expected, output)`, all three str (bytes
            that are no UTF-8 come as surrogate escapes). It returns True or False, or a number in [0, 1] of
            which only 1 is a pass. It runs in the test box; when it fails, the cause is `test:...`. The
            output is hostile: a checker must not `eval` it.
        args: Command-line arguments of the program.

    Raises:
        TypeError: A text is neither str nor bytes.
        ValueError: An unknown checker, a tolerance or a source that the checker does not use, a negative
            tolerance, or data over 64 MiB.
    """

    stdin: str | bytes
    expected: str | bytes
    checker: str = "tokens"
    tolerance: float = 1e-6
    checker_source: str = ""
    args: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("stdin", "expected"):
            value = getattr(self, name)
            if not isinstance(value, (str, bytes)):
                raise TypeError(f"{name} is a {type(value).__name__}; give str or bytes")
            if len(value) > MAX_DATA:
                raise ValueError(f"{name} has {len(value)} characters; at most {MAX_DATA} are run")
        if self.checker not in CHECKERS:
            raise ValueError(f"checker is {self.checker!r}; choose from {', '.join(CHECKERS)}")
        if (self.checker == "custom") != bool(self.checker_source):
            raise ValueError("checker 'custom' and checker_source go together: give both or neither")
        if not isinstance(self.checker_source, str) or len(self.checker_source) > MAX_CHECKER:
            raise ValueError(f"checker_source must be Python source of at most {MAX_CHECKER} characters")
        if isinstance(self.tolerance, bool) or not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise ValueError(f"tolerance is {self.tolerance!r}; give a number >= 0")
        if type(self.args) is not tuple or any(type(arg) is not str or "\0" in arg for arg in self.args):
            raise ValueError(f"args is {self.args!r}; give a tuple of texts without NUL")
        if sum(map(len, self.args)) > MAX_ARGS:
            raise ValueError(f"args have more than {MAX_ARGS} characters; give large input by stdin")

    def wire(self) -> tuple[int, bytes]:
        """Kind and payload as the engine reads them. The expected output goes along only for a checker of
        one's own, which needs it in the test box.
        """
        check = None
        if self.checker == "custom":
            check = (self.checker_source.encode("utf-8", "surrogatepass"), to_bytes(self.expected))
        return (IO_TEST, marshal.dumps((to_bytes(self.stdin), self.args, check)))

    def difference(self, output: bytes) -> str:
        """Why the output is not the expected one; "" when it is. Not for `custom`."""
        return COMPARE[self.checker](output, to_bytes(self.expected), self.tolerance)


def to_bytes(text: str | bytes) -> bytes:
    """Bytes of a text; surrogate escapes become the bytes that they stand for."""
    if isinstance(text, bytes):
        return text
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


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
    got, wanted = output.split(), expected.split()
    return "" if got == wanted else _first_difference(got, wanted, None)


def compare_floats(output: bytes, expected: bytes, tolerance: float = 0.0) -> str:
    """Empty when the tokens are equal or close, else the first that is not."""
    return _first_difference(output.split(), expected.split(), tolerance)


def _first_difference(got: list[bytes], wanted: list[bytes], tolerance: float | None) -> str:
    for place, (a, b) in enumerate(zip_longest(got, wanted)):
        if a == b or (tolerance is not None and a is not None and b is not None and _close(a, b, tolerance)):
            continue
        if a is None or b is None:
            return f"{len(got)} tokens instead of {len(wanted)}"
        return f"token {place} differs: {b[:60]!r} expected, got {a[:60]!r}"
    return ""


def _close(a: bytes, b: bytes, tolerance: float) -> bool:
    if max(len(a), len(b)) > _LONGEST_NUMBER or not (_NUMBER.fullmatch(a) and _NUMBER.fullmatch(b)):
        return False
    x, y = float(a), float(b)
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    if math.isinf(x) or math.isinf(y):
        return x == y
    return abs(x - y) <= tolerance * max(1.0, abs(y))


COMPARE = {"exact": compare_exact, "tokens": compare_tokens, "floats": compare_floats}
