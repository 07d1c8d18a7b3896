"""Timing of calls: CPU time read from outside, programs in turn on one core, a fresh process every round.

What one call took is what its row took (timed.py), less what a program takes that does nothing with the same
arguments. Calls too short for the clock are made many times in a row, on fresh copies of their arguments.
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
from .timed import FIRST_SLACK, REMEMBERS, Answer, Idle, Steps, measure, next_frame, several
from .worker import Flow, Worker

# Trusted, and run in every round: a loop that is always the same tells how fast and how steady the machine
# was, and a call that does nothing what crossing and decoding of the arguments takes.
CALIBRATION = b"def f(*args, loops=0):\n    t = 0\n    for i in range(loops): t += i * i % 7\n    return None"
CALIBRATION_CALL: tuple[tuple[Any, ...], dict[str, Any]] = ((), {"loops": 20_000})
LEARN = 2  # rounds in which it is learnt what a call takes that does nothing
MOST_ANSWERS = 4  # different ones of a call that are kept; a program that gives more is not steady enough
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
        row_seconds: float,
        every_core: bool,
    ) -> None:
        self.number = number
        self.sources = sources
        self.entry = entry
        self.calls = calls
        self.repeats = repeats
        self.limits = limits
        self.spread = spread
        self.row_seconds = row_seconds
        self.every_core = every_core
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
        self._cold: set[int] = set()  # programs that a call for warming up ended
        self._calibration: list[float] = []
        self._idle = [Idle() for _ in calls]
        self._counter: Instructions | None = None

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Time every program in turn, as often as asked."""
        for turn in range(2 * self.repeats):
            if turn >= self.repeats:
                self._leave_noisy()
            if self.cancelled or not any(self._open):
                break
            yield from self._calibrate(worker, turn < LEARN)
            for place in range(len(self.sources)):
                index = (place + turn) % len(self.sources)
                start = 0
                while start < len(self.calls) and self._open[index] and not self.cancelled:
                    start = yield from self._pass(worker, index, start)
        found = (self._seconds, self._failed, self._instructions, self._calibration, self.core, self.answers)
        report(("times", self.number, *found))

    def _leave_noisy(self) -> None:
        for index, still in enumerate(self._open):
            still.intersection_update(
                [at for at in still if variation(self._seconds[index][at]) > self.spread]
            )

    def _start(self, worker: Worker, source: bytes, entry: str, calls: int) -> Generator[None, None, Session]:
        solution = worker.load(source, entry, self.limits, 2 * calls + 1)
        found = yield from next_frame(solution, self.tries)
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

    def _row(
        self, worker: Worker, solution: Session, arguments: bytes, copies: int = 1
    ) -> Generator[None, None, tuple[Answer | None, Steps]]:
        return measure(worker, solution, arguments, copies, self._counter, self.tries)

    def _calibrate(self, worker: Worker, calls: bool) -> Flow:
        """Learn what a constant loop takes, and what each call takes of a program that does nothing."""
        solution = yield from self._start(worker, CALIBRATION, "f", len(self.calls) + 1)
        nothing = wire.plain(((), {}))
        for arguments in (nothing, nothing):  # the second one finds all memory touched
            _, frames = yield from self._row(worker, solution, arguments)
        _, loop = yield from self._row(worker, solution, wire.plain(CALIBRATION_CALL))
        self._calibration.append(loop.work - frames.work)
        for call, idle in zip(self.calls, self._idle, strict=True) if calls else ():
            _, one = yield from self._row(worker, solution, call)
            row = None
            if self.row_seconds:
                _, row = yield from self._row(worker, solution, call, several(len(call)))
            idle.learn(one, row)
        yield from self._end(worker)

    def _pass(self, worker: Worker, index: int, start: int) -> Generator[None, None, int]:
        """Time calls from `start` on in one process; where the next process must go on."""
        solution = yield from self._warm(worker, index, start)
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

    def _warm(self, worker: Worker, index: int, start: int) -> Generator[None, None, Session]:
        """A process that has made another call than the first: imports within the function and first touches
        of memory are no part of any call, and must not make the first one look like one that the others only
        remember. A program that such a call ends is timed without.
        """
        source, calls = self.sources[index], len(self.calls) - start
        solution = yield from self._start(worker, source, self.entry, calls)
        other = start + 1
        if solution.reason or solution.over or not self.row_seconds:
            return solution
        if index in self._cold or other not in self._open[index]:
            return solution
        answer, _ = yield from self._row(worker, solution, self.calls[other])
        if answer is None:
            while not solution.over:
                yield
            self._cold.add(index)
            yield from self._end(worker)
            solution = yield from self._start(worker, source, self.entry, calls)
        return solution

    def _call(
        self, worker: Worker, solution: Session, index: int, position: int
    ) -> Generator[None, None, bool]:
        """Time one call; whether the process can go on."""
        answer, steps = yield from self._row(worker, solution, self.calls[position])
        if answer is not None and answer[0] in (wire.VALUE, wire.REFUSED):
            seconds = self._idle[position].seconds(steps, len(answer[1]))
            self._keep(index, position, answer)
            if self.row_seconds:
                answer, seconds = yield from self._more(worker, solution, index, position, seconds)
        if answer is not None and answer[0] in (wire.VALUE, wire.REFUSED):
            self._seconds[index][position].append(seconds)
            if steps.instructions:
                self._instructions[index][position].append(steps.instructions)
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

    def _more(
        self, worker: Worker, solution: Session, index: int, position: int, first: float
    ) -> Generator[None, None, tuple[Answer | None, float]]:
        """A row of the call that was just made once: the last answer, and seconds a call. Where the others
        only remember what the first one worked out, the first one's count.
        """
        arguments, idle = self.calls[position], self._idle[position]
        copies = idle.copies(first, self.row_seconds, len(arguments))
        if copies == 1:
            return (wire.VALUE, b""), first
        answer, steps = yield from self._row(worker, solution, arguments, copies)
        if answer is None or answer[0] == wire.FAILED:
            return answer, first
        self._keep(index, position, answer)
        seconds = idle.seconds(steps, len(answer[1]))
        return answer, first if first > REMEMBERS * seconds + FIRST_SLACK else seconds

    def _keep(self, index: int, position: int, answer: Answer) -> None:
        """Keep the value for the caller's comparison; what is no plain data equals nothing."""
        if self.answers is None:
            return
        kept = self.answers[index][position]
        value = answer[1] if answer[0] == wire.VALUE else b""
        if value not in kept:
            kept.append(value if len(kept) < MOST_ANSWERS else b"")


def variation(values: list[float]) -> float:
    """Population standard deviation over mean; 0 for fewer than two values."""
    mean = sum(values) / max(1, len(values))
    if len(values) < 2 or mean <= 0:
        return 0.0
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) / mean
