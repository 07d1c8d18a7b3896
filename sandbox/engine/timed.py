"""One row of equal calls in a program's process: what its steps took.

The process unpacks the arguments (a fresh copy for each call), makes the calls, gives the last one's value;
the clock is read from outside before, between and after these steps, and only the calls count.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Generator
from dataclasses import dataclass

from . import wire
from .counters import Instructions
from .endings import raise_if_lost
from .session import Session
from .worker import Worker

MOST_COPIES = 2000
MOST_BYTES = 2**22  # of arguments that are unpacked for one row
# A program could do its work in a step that does not count, by meddling with the engine's code around it.
# So what such a step takes beyond its bound is work: a multiple of what it takes for a program that does
# nothing, and a fixed part for the first touch of memory.
UNPACK_FACTOR, UNPACK_SLACK = 1.5, 1e-4
GIVE_BYTE, GIVE_SLACK = 1e-6, 3e-4
# A row whose calls are so much faster than the first call remembers its value. The first call of an honest
# program is slower too, by what it touches for the first time: 50 microseconds and more on a busy machine.
REMEMBERS, FIRST_SLACK = 3.0, 2e-4

Answer = tuple[int, bytes]  # kind, body


@dataclass(frozen=True, slots=True)
class Steps:
    """CPU seconds of the steps of one row, and how many calls it had."""

    copies: int = 1
    unpack: float = math.nan
    work: float = math.nan
    give: float = 0.0
    instructions: int = 0


@dataclass(slots=True)
class Idle:
    """What the steps take for a program that does nothing, with the arguments of one call."""

    unpack: float = math.inf
    each: float = math.inf  # unpacking one copy more
    work: float = math.inf

    def learn(self, one: Steps, row: Steps | None) -> None:
        """Take a measurement of one call, and one of several in a row."""
        self.unpack = min(self.unpack, one.unpack)
        self.work = min(self.work, one.work)
        if row is not None:
            self.each = min(self.each, max(0.0, row.unpack - one.unpack) / (row.copies - 1))

    def seconds(self, steps: Steps, answer_bytes: int) -> float:
        """CPU seconds of one call of the row: its share of the calls' step, and of what other steps took
        beyond their bounds.
        """
        unpack = self.unpack + (steps.copies - 1) * (self.each if steps.copies > 1 else 0.0)
        hidden = max(0.0, steps.unpack - UNPACK_FACTOR * unpack - UNPACK_SLACK)
        hidden += max(0.0, steps.give - GIVE_BYTE * answer_bytes - GIVE_SLACK)
        return max(0.0, steps.work - self.work + hidden) / steps.copies

    def copies(self, first: float, wanted: float, size: int) -> int:
        """How many calls make a row of `wanted` seconds, within bounds, if one takes `first` seconds and its
        arguments `size` bytes.
        """
        count = wanted / max(first, 1e-7)
        count = min(count, MOST_COPIES, MOST_BYTES / max(1, size), 2 * wanted / max(self.each, 1e-9))
        return max(1, math.ceil(count))


def several(size: int) -> int:
    """How many copies tell what unpacking one more takes."""
    return max(2, min(64, 2**17 // max(1, size)))


def measure(
    worker: Worker,
    solution: Session,
    arguments: bytes,
    copies: int,
    counter: Instructions | None,
    tries: int,
) -> Generator[None, None, tuple[Answer | None, Steps]]:
    """Kind and body of the answer (None: the process ended), and what the steps took."""
    if solution.reason or solution.over:
        return None, Steps()
    # A number that nobody can guess: an answer sent in advance is an answer to something else.
    number = int.from_bytes(os.urandom(4), "little")
    body = struct.pack("<I", copies) + arguments
    before = solution.mark()
    found = yield from _step(worker, solution, wire.PREPARE, number, body, tries)
    if found is None or found[0] != wire.READY:
        return found, Steps()
    counted = counter.read() if counter else 0
    ready = solution.cpu()
    found = yield from _step(worker, solution, wire.GO, number, b"", tries)
    done = solution.cpu()
    counted = (counter.read() - counted) // copies if counter else 0
    if found is None or found[0] != wire.DONE:
        return found, Steps(copies, ready - before, done - ready)
    found = yield from _step(worker, solution, wire.FETCH, number, b"", tries)
    return found, Steps(copies, ready - before, done - ready, solution.cpu() - done, counted)


_REPLIES = {
    wire.PREPARE: frozenset((wire.READY, wire.FAILED)),
    wire.GO: frozenset((wire.DONE, wire.FAILED)),
    wire.FETCH: wire.ANSWERS,
}


def _step(
    worker: Worker, solution: Session, kind: int, number: int, body: bytes, tries: int
) -> Generator[None, None, Answer | None]:
    """Send one frame and wait for its reply; None when the process ended or said what is no reply."""
    solution.send(wire.frame(kind, number, body))
    worker.solutions.flow_control()
    found = yield from next_frame(solution, tries)
    if found is None:
        return None
    said, answered, content = found
    if said not in _REPLIES[kind] or answered != number or solution.frames:
        worker.solutions.condemn(solution)
        return None
    return said, content


def next_frame(solution: Session, tries: int) -> Generator[None, None, tuple[int, int, bytes] | None]:
    """The next frame; None when the process ends instead."""
    while not solution.frames and not solution.over:
        yield
    if solution.frames:
        return solution.frames.popleft()
    raise_if_lost(solution, tries)
    return None
