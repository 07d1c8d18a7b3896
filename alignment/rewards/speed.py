"""Times of right programs against their problem's reference, for the efficiency term of a reward.

Reference and programs are timed in turn on one core, in a fresh process every round, and what counts is the
median over rounds of their quotient; one job after the other, never beside another one of the same batch. The
calls are those of one graded size of the problem, and their right answers are known: a program that gives
another one there is wrong, however well it did on the tests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignment.rewards.pool import Pool
from codegen_eval.efficiency.grading import Yardstick, gradable, yardstick
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.paired_times import quotient
from codegen_eval.records import Problem
from sandbox import Sandbox, Timing, TimingJob

_LEAST = 1e-8  # seconds: less than any call takes, but the difference of two clocks may be nothing
_STOPPED = 1e9  # times the reference: a program that was stopped is slower than any floor
_AT_ONCE = 8  # programs in one job; a round with more of them would drift


@dataclass(frozen=True, slots=True)
class Speed:
    """How one program was timed.

    Attributes:
        seconds: The reference's time times the quotient; None where the reference itself has no time.
        reference_seconds: Median over rounds; None likewise.
        wrong: It gave another answer than the reference, or raised: its time means nothing.
    """

    seconds: float | None
    reference_seconds: float | None
    wrong: bool = False

    @property
    def log2_gain(self) -> float | None:
        """log2 of how many times as fast as the reference; None where that means nothing."""
        if self.wrong or not self.seconds or not self.reference_seconds:
            return None
        return math.log2(self.reference_seconds / self.seconds)


class Stopwatch:
    """Times programs in a pool; the references' answers are found out once, in a sandbox of this machine.

    Args:
        pool: Where programs are timed.
        level: Of the problem's graded sizes, counted from 0 or from the end.
        repeats: Rounds.

    Raises:
        CodealignError: For fewer than one round.
    """

    def __init__(self, pool: Pool, level: int, repeats: int) -> None:
        if repeats < 1:
            raise CodealignError(f"repeats is {repeats}: time in 1 round or more")
        self._pool = pool
        self._level = level
        self._repeats = repeats
        self._measures: dict[str, Yardstick] = {}

    def check(self, problems: Sequence[Problem]) -> None:
        """Refuses problems that cannot be timed, before anything is trained.

        Raises:
            CodealignError: With their number and the first few.
        """
        bad = [problem.task_id for problem in problems if not gradable(problem)]
        if bad or not problems:
            named = ", ".join(map(repr, bad[:5])) + (", ..." if len(bad) > 5 else "")
            raise CodealignError(
                "efficiency_weight needs problems with graded sizes and a reference to time against: "
                + (f"{len(bad)} of {len(problems)} have none: {named}" if bad else "name a benchmark")
                + "; leave the efficiency term out for them"
            )

    async def time(self, problem: Problem, sources: Sequence[str]) -> list[Speed | None]:
        """How each source was timed; None where the sandbox failed.

        Raises:
            CodealignError: If the reference fails, or the problem has no such level.
        """
        if problem.task_id not in self._measures:
            self._measures[problem.task_id] = await asyncio.to_thread(_measured, problem)
        measure = self._measures[problem.task_id]
        levels = measure.graded.levels
        if not -len(levels) <= self._level < len(levels):
            raise CodealignError(
                f"level is {self._level}, but task {problem.task_id!r} has {len(levels)} graded sizes"
            )
        speeds: list[Speed | None] = []
        for start in range(0, len(sources), _AT_ONCE):
            part = sources[start : start + _AT_ONCE]
            job = TimingJob(
                [problem.reference, *part],
                problem.entry_point,
                list(levels[self._level]),
                self._repeats,
                measure.limits,
                spread=math.inf,
                expected=list(measure.answers[self._level]),
            )
            timing = await self._pool.time(job)
            speeds += [None] * len(part) if timing is None else _speeds(timing)
        return speeds


def _measured(problem: Problem) -> Yardstick:
    with Sandbox(1) as box:
        measure = yardstick(problem, box)
    if measure.graded.checker:
        raise CodealignError(
            f"task {problem.task_id!r}: answers to its graded inputs are judged by a checker, which a "
            "reward's timing does not run; leave the efficiency term out for it"
        )
    return measure


def _speeds(timing: Timing) -> list[Speed | None]:
    """A speed for each program behind the reference, which is row 0."""
    count = len(timing.seconds) - 1
    if not np.all(np.isfinite(timing.seconds[0])):
        return [Speed(None, None)] * count
    ours = np.maximum(timing.rounds[0], _LEAST).sum(axis=0)
    reference = float(np.median(ours))
    found: list[Speed | None] = []
    for seconds, rounds in zip(timing.seconds[1:], timing.rounds[1:], strict=True):
        if np.isnan(seconds).any():
            found.append(Speed(None, reference, wrong=True))
        elif np.isinf(seconds).any():
            found.append(Speed(reference * _STOPPED, reference))
        else:
            times = float(quotient(ours, np.maximum(rounds, _LEAST).sum(axis=0)).value)
            found.append(Speed(reference * times, reference))
    return found
