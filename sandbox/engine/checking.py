"""A checker of the user's own, run in the test box on what a program printed."""

from __future__ import annotations

import marshal
import struct
import sys
from types import ModuleType
from typing import Any

from . import wire
from .pipe import Pipe, error_body

SCORE = ord("c")
SCORE_BODY = struct.Struct("<d")
_MODULE = "checker"


def main(pipe: Pipe) -> None:
    """Run one check and report its result."""
    first = pipe.read()
    if first is None:
        return
    source, *texts = marshal.loads(first[2])
    try:
        score = _score(source, [text.decode("utf-8", "surrogateescape") for text in texts])
    except BaseException as error:
        pipe.write(wire.ERROR, 0, error_body(error))
    else:
        pipe.write(SCORE, 0, SCORE_BODY.pack(score))


def _score(source: bytes, texts: list[str]) -> float:
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    exec(
        compile(source.decode("utf-8", "surrogatepass"), "<checker>", "exec", dont_inherit=True),
        module.__dict__,
    )
    check: Any = module.__dict__.get("check")
    if not callable(check):
        raise NameError("the checker does not define check(stdin, expected, output)")
    found = check(*texts)
    if type(found) not in (bool, int, float):
        raise TypeError(f"check returned a {type(found).__name__}; give a bool or a number in [0, 1]")
    if not 0 <= found <= 1:
        raise ValueError(f"check returned {found!r}; give a bool or a number in [0, 1]")
    return float(found)
