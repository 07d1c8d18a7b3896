"""Timing of calls: CPU time read from outside, programs in turn on one core, a fresh process every round."""

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

# Always the same work: what it costs tells how fast and how steady the machine was while others were timed.
CALIBRATION = b"def f(n):\n    t = 0\n    for i in range(n): t += i * i % 7\n    return t"
CALIBRATION_CALL: tuple[tuple[int], dict[str, Any]] = ((50_000,), {})
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
    ) -> None:
        self.number = number
        self.sources = sources
        self.entry = entry
        self.calls = calls
        self.repeats = repeats
        self.limits = limits
        self.spread = spread
        self.cancelled = False
        self.tries = 0
        self.core = -1
        self._seconds: list[list[list[float]]] = [[[] for _ in calls] for _ in sources]
        self._instructions: list[list[list[int]]] = [[[] for _ in calls] for _ in sources]
        self._failed: list[list[float | None]] = [[None] * len(calls) for _ in sources]
        self._open = [set(range(len(calls))) for _ in sources]
        self._timeouts = [0] * len(sources)
        self._calibration: list[float] = []
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
        found = (self._seconds, self._failed, self._instructions, self._calibration, self.core)
        report(("times", self.number, *found))

    def _leave_noisy(self) -> None:
        for index, still in enumerate(self._open):
            still.intersection_update(
                [at for at in still if variation(self._seconds[index][at]) > self.spread]
            )

    def _start(self, worker: Worker, source: bytes, entry: str, calls: int) -> Generator[None, None, Session]:
        solution = worker.load(source, entry, self.limits, calls)
        kind = yield from _next(solution, self.tries)
        if kind == wire.LOADED:
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
        solution = yield from self._start(worker, CALIBRATION, "f", 1)
        frame = wire.frame(wire.ARGUMENTS, 0, wire.plain(CALIBRATION_CALL))
        kind, seconds, _ = yield from self._measure(worker, solution, 0, frame)
        if kind == wire.DONE:
            self._calibration.append(seconds)
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
        frame = wire.frame(wire.ARGUMENTS, position, self.calls[position])
        kind, seconds, instructions = yield from self._measure(worker, solution, position, frame)
        if kind == wire.DONE:
            self._seconds[index][position].append(seconds)
            if instructions:
                self._instructions[index][position].append(instructions)
            return True
        self._open[index].discard(position)
        self._failed[index][position] = math.nan
        if kind is not None:
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

    def _measure(
        self, worker: Worker, solution: Session, position: int, arguments: bytes
    ) -> Generator[None, None, tuple[int | None, float, int]]:
        """Kind of the answer (None: the process ended), CPU seconds, instructions (0: not counted)."""
        if solution.reason or solution.over:
            return None, math.nan, 0
        solution.mark()
        solution.send(arguments)
        worker.solutions.flow_control()
        kind = yield from _next(solution, self.tries)
        if kind != wire.READY:
            return kind, math.nan, 0
        counted = self._counter.read() if self._counter else 0
        before = solution.mark()
        solution.send(wire.frame(wire.GO, position))
        kind = yield from _next(solution, self.tries)
        seconds = solution.cpu() - before
        return kind, seconds, (self._counter.read() - counted) if self._counter else 0


def variation(values: list[float]) -> float:
    """Population standard deviation over mean; 0 for fewer than two values."""
    mean = sum(values) / max(1, len(values))
    if len(values) < 2 or mean <= 0:
        return 0.0
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) / mean


def _next(solution: Session, tries: int) -> Generator[None, None, int | None]:
    """Kind of the next frame; None when the process ends instead."""
    while not solution.frames and not solution.over:
        yield
    if solution.frames:
        return solution.frames.popleft()[0]
    raise_if_lost(solution, tries)
    return None
