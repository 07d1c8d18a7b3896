"""Frames on the engine's pipes.

Between the supervisor and a program's process: length (4 bytes), kind (1 byte), number (4 bytes), body.
Between the caller and the supervisor, both trusted and of the same interpreter: length (4 bytes) and
`marshal` data.
"""

from __future__ import annotations

import marshal
import struct
from typing import Any

HEAD = struct.Struct("<IBI")
HEAD_SIZE = HEAD.size
SIZE = struct.Struct("<I")

# To a solution's process.
LOAD = ord("L")  # marshal (source bytes, entry point)
CALL = ord("C")  # (args, kwargs) as `codec.pack_arguments` gives them: call the entry point
ASK = ord("N")  # what a test asks for but a call, see objects.py
INSIDE = ord("I")  # test source: run it in this very process; answered with PASSED, WRONG or ERROR
LINK = ord("K")  # with a descriptor: serve calls of a test's process there until it ends, then go on here
PREPARE = ord("P")  # copies (4 bytes), then as in CALL: unpack so many times; answered with READY or FAILED
GO = ord("O")  # make the calls that were prepared; answered with DONE or FAILED
FETCH = ord("F")  # answer with the last one's value, as a CALL does
BRANCH = ord("B")  # with a descriptor: fork; the child serves calls there
# From a solution's process.
LOADED = ord("l")
VALUE = ord("v")  # codec
FAILED = ord("e")  # cause NUL text
REFUSED = ord("r")  # the value is no plain data: reason
BROKEN = ord("b")  # did not load: one byte kind (s: syntax, e: exception), cause NUL text
READY = ord("y")
DONE = ord("d")
BRANCHED = ord("k")  # a branch has ended: its wait status (4 bytes)
# To a test's process: TEST, with the descriptor of its link to a solution. On the link it sends CALL
# or ASK and gets VALUE, FAILED or REFUSED, as objects.py says.
TEST = ord("T")
# From a test's process, and of a test in the solution's own.
PASSED = ord("p")
WRONG = ord("w")  # an assertion failed: text
ERROR = ord("x")  # cause NUL text
GONE = ord("g")  # the solution's end of the link was closed, or it sent what is no answer

ANSWERS = frozenset((VALUE, FAILED, REFUSED))
MAX_BODY = 8 * 2**20 + 64
MAX_TEST_BODY = 2**16  # a test's process reports words only; its calls go to the solution's by their link


def error(body: bytes) -> tuple[str, str]:
    """Cause and text of a program's error. The cause is a type's name and no more: a program can write
    anything, such as what the engine says of tests.
    """
    cause, _, text = body.decode("utf-8", "replace").partition("\0")
    return (cause if cause.isidentifier() else "Exception"), text


def frame(kind: int, number: int, body: bytes = b"") -> bytes:
    """One frame for a program's pipe."""
    return HEAD.pack(len(body), kind, number) + body


def plain(arguments: Any) -> bytes:
    """The body of a call with plain arguments, (args, kwargs)."""
    return marshal.dumps(arguments, 2)


def call(number: int, arguments: Any) -> bytes:
    """The frame of a call with plain arguments, (args, kwargs)."""
    return frame(CALL, number, plain(arguments))


def message(content: Any) -> bytes:
    """One message between the caller and the supervisor."""
    data = marshal.dumps(content)
    return SIZE.pack(len(data)) + data


class Inbox:
    """Collects bytes of the control pipe and cuts them into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes, return the messages that are complete."""
        self._data += data
        found: list[Any] = []
        at = 0
        with memoryview(self._data) as view:
            while len(view) - at >= 4:
                size = SIZE.unpack_from(view, at)[0]
                if len(view) - at - 4 < size:
                    break
                found.append(marshal.loads(view[at + 4 : at + 4 + size]))
                at += 4 + size
        if at:
            del self._data[:at]
        return found
