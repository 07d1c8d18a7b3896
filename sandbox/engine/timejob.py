"""Timing of calls: CPU time read from outside, programs in turn on one core, a fresh process every round.

A timed call is a call as any other: from the moment at which it is sent to the answer, less what a trusted
program takes that does nothing with the same arguments. So a program cannot find out that it is being timed,
has nothing to prepare in advance, and must work to know the value, which the caller may compare.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator
from typing import Any

from . import wire
from .counters import Instructions
from .endings import MAX_TIMEOUTS, ending, raise_if_lost
from .session import Limits, Session
from .worker import Flow, Worker

# Trusted, and run in every round: a loop that is always the same tells how fast and how steady the machine
# was, and a call that does nothing what crossing and decoding of the arguments takes.
CALIBRATION = b"def f(*args, loops=0):\n    t = 0\n    for i in range(loops): t += i * i % 7\n    return None"
CALIBRATION_CALL: tuple[tuple[Any, ...], dict[str, Any]] = ((), {"loops": 50_000})
MOST_ANSWERS = 4  # different ones of a call that are kept; a program that gives more is not steady enough
Answer = tuple[int, bytes]  # kind, body
Report = Callable[[Any], None]


class TimeJob:
    """Several programs and the calls that each of them makes.

    Rounds go through the programs in turn, beginning with another one each time. After `repeats` rounds,
    calls whose times vary by more than `spread` (standard deviation over mean) get up to as many again.
    """

    def __init__(
        self,
        number: int,
        sources: list[bytes],
        entry: str,
        calls: list[bytes],
        repeats: int,
        limits: Limits,
        spread: float,
        answers: bool,
    ) -> None:
        self.number = number
        self.sources = sources
        self.entry = entry
        self.calls = calls
        self.repeats = repeats
        self.limits = limits
        self.spread = spread
        self.answers: list[list[list[bytes]]] | None = (
            [[[] for _ in calls] for _ in sources] if answers else None
        )
        self.cancelled = False
        self.tries = 0
        self.core = -1
        self._seconds: list[list[list[float]]] = [[[] for _ in calls] for _ in sources]
        self._instructions: list[list[list[int]]] = [[[] for _ in calls] for _ in sources]
        self._failed: list[list[float | None]] = [[None] * len(calls) for _ in sources]
        self._open = [set(range(len(calls))) for _ in sources]
        self._timeouts = [0] * len(sources)
        self._calibration: list[float] = []
        self._idle = [math.inf] * len(calls)
        self._counter: Instructions | None = None

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Time every program in turn, as often as asked."""
        for turn in range(2 * self.repeats):
            if turn >= self.repeats:
                self._leave_noisy()
            if self.cancelled or not any(self._open):
                break
            yield from self._calibrate(worker)
            for place in range(len(self.sources)):
                index = (place + turn) % len(self.sources)
                start = 0
                while start < len(self.calls) and self._open[index] and not self.cancelled:
                    start = yield from self._pass(worker, index, start)
        seconds = [
            [[max(0.0, taken - idle) for taken in cell] for cell, idle in zip(row, self._idle, strict=True)]
            for row in self._seconds
        ]
        found = (seconds, self._failed, self._instructions, self._calibration, self.core, self.answers)
        report(("times", self.number, *found))

    def _leave_noisy(self) -> None:
        for index, still in enumerate(self._open):
            still.intersection_update(
                [at for at in still if variation(self._seconds[index][at]) > self.spread]
            )

    def _start(self, worker: Worker, source: bytes, entry: str, calls: int) -> Generator[None, None, Session]:
        solution = worker.load(source, entry, self.limits, calls)
        found = yield from _next(solution, self.tries)
        if found is not None and found[0] == wire.LOADED:
            self._pin(solution.pid)
        else:
            solution.reason = solution.reason or "no start"
        return solution

    def _pin(self, pid: int) -> None:
        if self.core >= 0:
            with contextlib.suppress(OSError):  # gone already
                os.sched_setaffinity(pid, {self.core})
        self._counter = Instructions.of(pid)

    def _end(self, worker: Worker) -> Flow:
        if self._counter is not None:
            self._counter.close()
            self._counter = None
        worker.solutions.kill("done")
        yield from worker.close(worker.solutions)

    def _calibrate(self, worker: Worker) -> Flow:
        solution = yield from self._start(worker, CALIBRATION, "f", len(self.calls) + 1)
        _, taken, _ = yield from self._measure(worker, solution, wire.plain(CALIBRATION_CALL))
        self._calibration.append(taken)
        for position, call in enumerate(self.calls):
            _, taken, _ = yield from self._measure(worker, solution, call)
            self._idle[position] = min(taken, self._idle[position])
        yield from self._end(worker)

    def _pass(self, worker: Worker, index: int, start: int) -> Generator[None, None, int]:
        """Time calls from `start` on in one process; where the next process must go on."""
        solution = yield from self._start(worker, self.sources[index], self.entry, len(self.calls) - start)
        position = start
        if solution.reason or solution.over:
            self._open[index].clear()
            position = len(self.calls)
        while position < len(self.calls):
            alive = position not in self._open[index]
            if not alive:
                alive = yield from self._call(worker, solution, index, position)
            position += 1
            if not alive:
                break
        yield from self._end(worker)
        return position

    def _call(
        self, worker: Worker, solution: Session, index: int, position: int
    ) -> Generator[None, None, bool]:
        """Time one call; whether the process can go on."""
        answer, seconds, instructions = yield from self._measure(worker, solution, self.calls[position])
        if answer is not None and answer[0] in (wire.VALUE, wire.REFUSED):
            self._seconds[index][position].append(seconds)
            if instructions:
                self._instructions[index][position].append(instructions)
            self._keep(index, position, answer)
            return True
        self._open[index].discard(position)
        self._failed[index][position] = math.nan
        if answer is not None:
            return True
        while not solution.over:
            yield
        raise_if_lost(solution, self.tries)
        if ending(solution)[0] == "timeout":
            self._failed[index][position] = math.inf
            self._timeouts[index] += 1
            if self._timeouts[index] >= MAX_TIMEOUTS:
                self._open[index].clear()
        return False

    def _keep(self, index: int, position: int, answer: Answer) -> None:
        """Keep the value for the caller's comparison; what is no plain data equals nothing."""
        if self.answers is None:
            return
        kept = self.answers[index][position]
        value = answer[1] if answer[0] == wire.VALUE else b""
        if value not in kept:
            kept.append(value if len(kept) < MOST_ANSWERS else b"")

    def _measure(
        self, worker: Worker, solution: Session, arguments: bytes
    ) -> Generator[None, None, tuple[Answer | None, float, int]]:
        """Kind and body of the answer (None: the process ended), CPU seconds, instructions (0: none)."""
        if solution.reason or solution.over:
            return None, math.nan, 0
        # A number that nobody can guess: an answer sent in advance is an answer to something else.
        number = int.from_bytes(os.urandom(4), "little")
        counted = self._counter.read() if self._counter else 0
        before = solution.mark()
        solution.send(wire.frame(wire.CALL, number, arguments))
        worker.solutions.flow_control()
        found = yield from _next(solution, self.tries)
        seconds = solution.cpu() - before
        counted = (self._counter.read() - counted) if self._counter else 0
        if found is None:
            return None, seconds, counted
        kind, answered, body = found
        if kind not in wire.ANSWERS or answered != number or solution.frames:
            worker.solutions.kill("violation")
            return None, seconds, counted
        return (kind, body), seconds, counted


def variation(values: list[float]) -> float:
    """Population standard deviation over mean; 0 for fewer than two values."""
    mean = sum(values) / max(1, len(values))
    if len(values) < 2 or mean <= 0:
        return 0.0
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) / mean


def _next(solution: Session, tries: int) -> Generator[None, None, tuple[int, int, bytes] | None]:
    """The next frame; None when the process ends instead."""
    while not solution.frames and not solution.over:
        yield
    if solution.frames:
        return solution.frames.popleft()
    raise_if_lost(solution, tries)
    return None
