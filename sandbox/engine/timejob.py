"""Timing of calls: CPU time read from outside, programs in turn on one core, a fresh process every round.

What one call took is what its row took (timed.py), less what a program takes that does nothing with the same
arguments. Calls too short for the clock are made many times in a row, on fresh copies of their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Any

from . import wire
from .endings import MAX_TIMEOUTS, ending, raise_if_lost
from .session import Limits
from .timed import FIRST_SLACK, REMEMBERS, Answer, Idle, Lane, several
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

    Rounds go through the programs in turn, beginning with another one each time: `abreast` of them live at
    once and make a call one behind the other before any makes the next. After `repeats` rounds, calls whose
    times vary by more than `spread` (standard deviation over mean) get up to as many again.
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
        abreast: int,
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
        self.abreast = abreast
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

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Time every program in turn, as often as asked."""
        programs = range(len(self.sources))
        groups = [programs[start : start + self.abreast] for start in programs[:: self.abreast]]
        for turn in range(2 * self.repeats):
            if turn >= self.repeats:
                self._leave_noisy()
            if self.cancelled or not any(self._open):
                break
            idle = yield from self._calibrate(worker)
            beside = turn < LEARN and self.abreast > 1
            if not beside:
                if turn < LEARN:
                    for position in range(len(self.calls)):
                        yield from self._learn(idle, position)
                yield from idle.end()
            for place in range(len(groups)):
                group = groups[(place + turn) % len(groups)]
                yield from self._round(worker, group, turn, idle if beside and place == 0 else None)
            if beside:
                yield from idle.end()
        found = (self._seconds, self._failed, self._instructions, self._calibration, self.core, self.answers)
        report(("times", self.number, *found))

    def _leave_noisy(self) -> None:
        for index, still in enumerate(self._open):
            still.intersection_update(
                [at for at in still if variation(self._seconds[index][at]) > self.spread]
            )

    def _calibrate(self, worker: Worker) -> Generator[None, None, Lane]:
        """Start a program that does nothing, and learn what a constant loop takes."""
        lane = Lane(worker, worker.abreast(self.abreast if self.abreast > 1 else 0), self.tries)
        yield from lane.start(CALIBRATION, "f", self.limits, 2 * len(self.calls) + 3, self.core)
        nothing = wire.plain(((), {}))
        for arguments in (nothing, nothing):  # the second one finds all memory touched
            _, frames = yield from lane.row(arguments)
        _, loop = yield from lane.row(wire.plain(CALIBRATION_CALL))
        self._calibration.append(loop.work - frames.work)
        return lane

    def _learn(self, idle: Lane, position: int) -> Flow:
        """Learn what a call takes of a program that does nothing."""
        call = self.calls[position]
        _, one = yield from idle.row(call)
        row = None
        if self.row_seconds:
            _, row = yield from idle.row(call, several(len(call)))
        self._idle[position].learn(one, row)

    def _round(self, worker: Worker, members: range, turn: int, idle: Lane | None) -> Flow:
        """Make every open call of some programs once, call by call. One that does nothing goes with them, and
        finds its caches as they do.
        """
        lanes: dict[int, Lane] = {}
        count = len(members)
        for position in range(len(self.calls)):
            if idle is not None:
                yield from self._learn(idle, position)
            for step in range(count):
                # The same order for every call of a round: a program finds its caches as the one before it
                # leaves them, and nobody shall come behind himself.
                place = (step + turn) % count
                index = members[place]
                if position not in self._open[index] or self.cancelled:
                    continue
                if index not in lanes:
                    # In another zygote every round: how its memory lies makes a difference, too.
                    lanes[index] = Lane(worker, worker.abreast((place + turn) % count), self.tries)
                    yield from self._warm(lanes[index], index, position)
                lane = lanes[index]
                if not lane.alive:
                    self._open[index].clear()
                elif not (yield from self._call(lane, index, position)):
                    yield from lanes.pop(index).end()
        for lane in lanes.values():
            yield from lane.end()

    def _warm(self, lane: Lane, index: int, start: int) -> Flow:
        """Start a process and make another call than the first: imports within the function and first touches
        of memory are no part of any call, and must not make the first one look like one that the others only
        remember. A program that such a call ends is timed without; so is one with threads of its own: what
        they did until then would count to that call.
        """
        tests = 2 * (len(self.calls) - start) + 1
        yield from lane.start(self.sources[index], self.entry, self.limits, tests, self.core)
        other = start + 1
        if not lane.alive or lane.threaded or not self.row_seconds:
            return
        if index in self._cold or other not in self._open[index]:
            return
        answer, _ = yield from lane.row(self.calls[other])
        if answer is None:
            yield from lane.gone()
            self._cold.add(index)
            yield from lane.end()
            yield from lane.start(self.sources[index], self.entry, self.limits, tests, self.core)

    def _call(self, lane: Lane, index: int, position: int) -> Generator[None, None, bool]:
        """Time one call; whether the process can go on."""
        answer, steps = yield from lane.row(self.calls[position])
        if answer is not None and answer[0] in (wire.VALUE, wire.REFUSED):
            seconds = self._idle[position].seconds(steps, len(answer[1]))
            self._keep(index, position, answer)
            if self.row_seconds:
                answer, seconds = yield from self._more(
                    lane, index, position, seconds, self._idle[position].work_of(steps)
                )
        if answer is not None and answer[0] in (wire.VALUE, wire.REFUSED):
            self._seconds[index][position].append(seconds)
            if steps.instructions:
                self._instructions[index][position].append(steps.instructions)
            return True
        self._open[index].discard(position)
        self._failed[index][position] = math.nan
        if answer is not None:
            return True
        yield from lane.gone()
        raise_if_lost(lane.session, self.tries)
        if ending(lane.session)[0] == "timeout":
            self._failed[index][position] = math.inf
            self._timeouts[index] += 1
            if self._timeouts[index] >= MAX_TIMEOUTS:
                self._open[index].clear()
        return False

    def _more(
        self, lane: Lane, index: int, position: int, first: float, work: float
    ) -> Generator[None, None, tuple[Answer | None, float]]:
        """A row of the call that was just made once: the last answer, and seconds a call. Where the others
        only remember what the first one worked out, the first one's count.
        """
        arguments, idle = self.calls[position], self._idle[position]
        copies = idle.copies(work, self.row_seconds, len(arguments))
        if copies == 1:
            return (wire.VALUE, b""), first
        answer, steps = yield from lane.row(arguments, copies)
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
