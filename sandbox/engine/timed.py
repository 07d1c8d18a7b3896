"""One row of equal calls in a program's process: what its steps took.

The process unpacks the arguments (a fresh copy for each call), makes the calls, gives the last one's value;
the clock is read from outside before, between and after these steps, and only the calls count.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import time
from collections.abc import Generator
from dataclasses import dataclass

from . import wire
from .counters import Instructions
from .endings import raise_if_lost
from .session import Limits, Session
from .worker import Cradle, Worker

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
_PATIENCE = 1e-3  # seconds to wait for a process that was put off its core before it could go to sleep

Answer = tuple[int, bytes]  # kind, body


@dataclass(frozen=True, slots=True)
class Steps:
    """CPU seconds of the steps of one row, and how many calls it had; what a process takes while nothing is
    asked of it counts to `unpack` of the next row.
    """

    copies: int = 1
    unpack: float = math.nan
    work: float = math.nan
    give: float = 0.0
    instructions: int = 0


@dataclass(slots=True)
class Idle:
    """What the steps take for a program that does nothing, with the arguments of one call."""

    unpack: float = math.inf
    each: float = math.inf  # unpacking one copy of several
    work: float = math.inf

    def learn(self, one: Steps, row: Steps | None) -> None:
        """Take a measurement of one call, and one of several in a row."""
        self.unpack = min(self.unpack, one.unpack)
        self.work = min(self.work, one.work)
        if row is not None:
            self.each = min(self.each, row.unpack / row.copies)
            self.work = min(self.work, row.work)

    def seconds(self, steps: Steps, answer_bytes: int) -> float:
        """CPU seconds of one call of the row: its share of the calls' step, and of what other steps took
        beyond their bounds.
        """
        unpack = self.unpack + (steps.copies - 1) * (self.each if steps.copies > 1 else 0.0)
        hidden = max(0.0, steps.unpack - UNPACK_FACTOR * unpack - UNPACK_SLACK)
        # The arguments are freed in this step, too: that takes less than to make them.
        hidden += max(0.0, steps.give - GIVE_BYTE * answer_bytes - GIVE_SLACK - unpack)
        return (self.work_of(steps) + hidden) / steps.copies

    def work_of(self, steps: Steps) -> float:
        """CPU seconds of the calls' own step."""
        return max(0.0, steps.work - self.work)

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


_REPLIES = {
    wire.PREPARE: frozenset((wire.READY, wire.FAILED)),
    wire.GO: frozenset((wire.DONE, wire.FAILED)),
    wire.FETCH: wire.ANSWERS,
}


class Lane:
    """A program's process, and what its rows took."""

    def __init__(self, worker: Worker, cradle: Cradle, tries: int) -> None:
        self._worker = worker
        self._cradle = cradle
        self._tries = tries
        self._counter: Instructions | None = None
        self._state = -1  # descriptor of what the kernel says of it
        self._rested = 0.0  # its clock when nothing was left to do
        self.threaded = False  # it had other threads than the first while it was loaded
        self.session: Session

    def start(
        self, source: bytes, entry: str, limits: Limits, tests: int, core: int
    ) -> Generator[None, None, None]:
        """Load the program, on a core if it is one; `alive` says whether that went well."""
        self.session = self._worker.load(source, entry, limits, tests, cradle=self._cradle)
        found = yield from next_frame(self.session, self._tries)
        if found is None or found[0] != wire.LOADED:
            self.session.reason = self.session.reason or "no start"
            return
        if core >= 0:
            with contextlib.suppress(OSError):  # gone already
                os.sched_setaffinity(self.session.pid, {core})
        self._counter = Instructions.of(self.session.pid)
        with contextlib.suppress(OSError):
            self._state = os.open(f"/proc/{self.session.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._rest()
        # Loading is what the first thread does. Others go on after it has said that it is done, and how long
        # before the clock is read is chance: all that they do counts to the first row.
        own = self.session.first_thread()
        self.threaded = self._rested - own > UNPACK_SLACK
        self._rested = min(self._rested, own)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self.session.reason and not self.session.over

    def gone(self) -> Generator[None, None, None]:
        """Wait for the end of a process that gave no answer."""
        while not self.session.over:
            yield

    def end(self) -> Generator[None, None, None]:
        """Let the process go."""
        if self._counter is not None:
            self._counter.close()
            self._counter = None
        if self._state >= 0:
            os.close(self._state)
            self._state = -1
        self._cradle.kill("done")
        yield from self._worker.close(self._cradle)

    def row(self, arguments: bytes, copies: int = 1) -> Generator[None, None, tuple[Answer | None, Steps]]:
        """Kind and body of the answer (None: the process ended), and what the steps took."""
        if not self.alive:
            return None, Steps()
        solution = self.session
        # A number that nobody can guess: an answer sent in advance is an answer to something else.
        number = int.from_bytes(os.urandom(4), "little")
        body = struct.pack("<I", copies) + arguments
        solution.mark()
        before = self._rested
        found = yield from self._step(wire.PREPARE, number, body)
        if found is None or found[0] != wire.READY:
            self._rest()
            return found, Steps()
        counted = self._counter.read() if self._counter else 0
        ready = self._clock()
        found = yield from self._step(wire.GO, number)
        done = self._clock()
        counted = (self._counter.read() - counted) // copies if self._counter else 0
        if found is None or found[0] != wire.DONE:
            self._rest()
            return found, Steps(copies, ready - before, done - ready)
        found = yield from self._step(wire.FETCH, number)
        self._rest()
        steps = Steps(copies, ready - before, done - ready, self._rested - done, counted)
        return found, steps

    def _clock(self) -> float:
        """CPU seconds, read when the process sleeps: while it runs, the kernel counts at its ticks only, and
        a reply may be read some microseconds before its sender has gone to sleep.
        """
        end = time.monotonic() + _PATIENCE
        with contextlib.suppress(OSError):  # gone
            while self._state >= 0 and time.monotonic() < end:
                found = os.pread(self._state, 64, 0)
                if found[found.rfind(b")") + 2 :][:1] != b"R":
                    break
                os.sched_yield()  # it may wait for this very core
        return self.session.cpu()

    def _rest(self) -> None:
        """It is not the process's turn from here on, and its limits stand still."""
        self._rested = self._clock()
        if self.alive:
            self.session.rest()

    def _step(self, kind: int, number: int, body: bytes = b"") -> Generator[None, None, Answer | None]:
        """Send one frame and wait for its reply; None when the process ended or said what is no reply."""
        solution = self.session
        solution.send(wire.frame(kind, number, body))
        self._cradle.flow_control()
        found = yield from next_frame(solution, self._tries)
        if found is None:
            return None
        said, answered, content = found
        if said not in _REPLIES[kind] or answered != number or solution.frames:
            self._cradle.condemn(solution)
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
