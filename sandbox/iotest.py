"""Tests of whole programs: text in, text out, and how the two outputs are compared.

The comparison runs in the caller's process on bounded bytes. A checker of one's own runs in the test box.
"""

from __future__ import annotations

import marshal
import math
from dataclasses import dataclass

from .comparers import COMPARE

CHECKERS = (*COMPARE, "custom")
MAX_DATA = 64 * 2**20
MAX_CHECKER = 2**20
MAX_ARGS = 2**14
IO_TEST = 5  # kind on the wire


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
            `lines`, `decimal_lines`, `float_lines`, `tokens_casefold`, `set`, `line_set`, `apps`:
            `sandbox.comparers` says what each forgives.
            `custom`: `checker_source` decides.
        tolerance: For `floats` and `float_lines`.
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
