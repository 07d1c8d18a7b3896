"""Timing of programs: what to time, and what came of it. The clocks are read by the engine
(engine/timejob.py), outside the programs' reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import codec
from .client import Client
from .judges import Expected
from .limits import Limits
from .program import check_entry_point, check_job
from .verdict import SandboxError

MOST_ABREAST = 16


@dataclass(frozen=True, slots=True)
class TimingJob:
    """Sources that share an entry point, and calls that each of them is to make.

    Attributes:
        sources: Python programs.
        entry_point: The function to call.
        calls: Argument tuples, plain data.
        repeats: How often; every repeat is a fresh process, so nothing is remembered between them.
        limits: Limits of each call; the sandbox's own when absent.
        spread: Calls whose times vary by more than this (standard deviation over mean) after `repeats` rounds
            are timed in up to as many rounds again. Infinity times nothing again.
        expected: What each call must give, compared as in `CallTest`; a call that gives anything else has
            failed. Without it a program that skips the work is taken for a fast one: time only programs whose
            answers to these calls are known.
        row_seconds: Calls that take less CPU time are made in a row of about that length, each on a fresh
            copy of its arguments, and the mean counts; 0 makes each call once.
        every_core: Whether such jobs may go on at once on all cores. Otherwise one core is left to the rest
            of the sandbox, so that little disturbs what is timed; quotients of `rounds` bear the disturbance.
        abreast: So many of the sources live at the same time and make each call one behind the other, so that
            times of one round lie milliseconds apart, not as long as all calls take; a core's speed drifts
            less in that time. 1 lets a source make all its calls before the next one begins. Each has the
            memory of `limits`; more than 16 are refused.
    """

    sources: Sequence[str]
    entry_point: str
    calls: Sequence[tuple[Any, ...]]
    repeats: int = 3
    limits: Limits | None = None
    spread: float = 0.05
    expected: Sequence[Any] | None = None
    row_seconds: float = 0.002
    every_core: bool = False
    abreast: int = 1

    def __post_init__(self) -> None:
        check_entry_point(self.entry_point)
        for source in self.sources:
            check_job(source, self.entry_point, ())
        for call in self.calls:
            if type(call) is not tuple:
                raise ValueError(f"a call is a {type(call).__name__}; give a tuple of arguments")
            codec.check_plain(call, "a call")
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int) or self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats!r}; give a number >= 1")
        if not self.spread >= 0:
            raise ValueError(f"spread is {self.spread!r}; give a number >= 0")
        if type(self.abreast) is not int or not 1 <= self.abreast <= MOST_ABREAST:
            raise ValueError(f"abreast is {self.abreast!r}; give a number from 1 to {MOST_ABREAST}")
        if not (0 <= self.row_seconds <= 1):
            raise ValueError(f"row_seconds is {self.row_seconds!r}; give a number in [0, 1]")
        if self.expected is not None and len(self.expected) != len(self.calls):
            raise ValueError(
                f"expected has {len(self.expected)} values for {len(self.calls)} calls; give one a call"
            )

    def wire(self, number: int, limits: Limits) -> tuple[Any, ...]:
        """The job as the engine reads it."""
        return (
            "time",
            number,
            [source.encode("utf-8", "surrogatepass") for source in self.sources],
            self.entry_point,
            [codec.pack_arguments(call) for call in self.calls],
            self.repeats,
            limits.wire(),
            self.spread,
            self.expected is not None,
            self.row_seconds,
            self.every_core,
            self.abreast,
        )


@dataclass(frozen=True, eq=False)
class Timing:
    """CPU times of calls, and how far they can be trusted.

    Attributes:
        seconds: (sources, calls) the least CPU time; NaN where the call failed or gave what was not expected,
            inf where it timed out. What the arguments take to cross is taken off.
        median: (sources, calls) likewise, the median.
        relative: (sources, calls) the median over rounds of the CPU time over that of the calibration loop in
            the same round. Where the speed of the core itself drifts (other guests of the host, heat), this
            stays comparable between jobs and `seconds` does not.
        rounds: (sources, calls, rounds) every round's CPU time; NaN where there is none. All sources are
            timed in every round, one behind the other, so that quotients within a round suffer least from a
            core whose speed drifts.
        spread: (sources, calls) standard deviation over mean of the repeats; NaN for fewer than two.
        repeats: (sources, calls) how often it was timed.
        instructions: (sources, calls) the least number of instructions in user mode; None where the machine
            counts none.
        calibration: CPU seconds of a loop that is always the same, once a round: the speed of the core then.
        core: The core on which all of it ran; -1 if it could not be chosen.
    """

    seconds: NDArray[np.float64]
    median: NDArray[np.float64]
    relative: NDArray[np.float64]
    rounds: NDArray[np.float64]
    spread: NDArray[np.float64]
    repeats: NDArray[np.int64]
    instructions: NDArray[np.float64] | None
    calibration: tuple[float, ...]
    core: int

    @property
    def noise(self) -> float:
        """Standard deviation over mean of the calibration loop; 0 for a single round."""
        found = np.asarray(self.calibration)
        return float(found.std() / found.mean()) if len(found) > 1 else 0.0


class TimingRun:
    """A timing job in the engine."""

    def __init__(self, client: Client, job: TimingJob, limits: Limits) -> None:
        self._client = client
        self._shape = (len(job.sources), len(job.calls))
        self._expected = None if job.expected is None else [_expected(value) for value in job.expected]
        self._message: tuple[Any, ...] = ()
        self._infra = ""
        self.decided = False
        self.number = client.number(self)
        client.send(job.wire(self.number, limits))

    def __call__(self, message: tuple[Any, ...]) -> None:
        """Take one message of the engine."""
        if message[0] == "times":
            self._message = message
        elif message[0] == "infra":
            self._infra = message[2]
        self.decided = True

    def release(self) -> None:
        """Nothing more is wanted of the engine for this job."""
        self._client.forget(self.number)
        if not self.decided and self._client.usable:
            self._client.send(("cancel", self.number))

    def result(self) -> NDArray[np.float64]:
        """The least CPU seconds (sources, calls), as `Timing.seconds`.

        Raises:
            SandboxError: The engine failed repeatedly.
        """
        return self.timing().seconds

    def timing(self) -> Timing:
        """All that was measured.

        Raises:
            SandboxError: The engine failed repeatedly.
        """
        if not self._message:
            raise SandboxError(f"calls could not be timed after several tries: {self._infra}")
        _, _, seconds, failed, instructions, calibration, core, answers = self._message
        if self._expected is not None:
            self._refuse(failed, answers, self._expected)
        cells = [found for row in seconds for found in row]
        bad = [found for row in failed for found in row]
        counts = [min(found) if found else math.nan for row in instructions for found in row]
        return Timing(
            self._array([_least(found, kind) for found, kind in zip(cells, bad, strict=True)]),
            self._array([_median(found) for found in cells]),
            self._array([_median(_over(found, calibration)) for found in cells]),
            self._rounds(cells, len(calibration)),
            self._array([_spread(found) for found in cells]),
            np.asarray([len(found) for found in cells], np.int64).reshape(self._shape),
            None if all(math.isnan(count) for count in counts) else self._array(counts),
            tuple(calibration),
            core,
        )

    def _refuse(
        self, failed: list[list[float | None]], answers: list[list[list[bytes]]], expected: list[Expected]
    ) -> None:
        """Calls that gave what was not expected have failed."""
        for row, given in zip(failed, answers, strict=True):
            for place, (kept, wanted) in enumerate(zip(given, expected, strict=True)):
                if row[place] is None and not all(wanted.matches(answer) for answer in kept):
                    row[place] = math.nan

    def _rounds(self, cells: list[list[float]], count: int) -> NDArray[np.float64]:
        """Every call is timed from the first round on, so that its n-th time is of round n."""
        out = np.full((len(cells), count), np.nan)
        for row, found in zip(out, cells, strict=True):
            row[: len(found)] = found
        return out.reshape(*self._shape, count)

    def _array(self, values: list[float]) -> NDArray[np.float64]:
        return np.asarray(values, np.float64).reshape(self._shape)


def _expected(value: Any) -> Expected:
    crossed, plain = codec.crossed(value, "expected")
    return Expected(crossed, size=len(codec.pack_arguments((crossed,), None, plain)))


def _median(found: list[float]) -> float:
    return float(np.median(found)) if found else math.nan


def _over(found: list[float], calibration: list[float]) -> list[float]:
    return [taken / steady for taken, steady in zip(found, calibration, strict=False)]


def _spread(found: list[float]) -> float:
    if len(found) < 2:
        return math.nan
    return float(np.std(found) / np.mean(found)) if any(found) else 0.0


def _least(found: list[float], failed: float | None) -> float:
    if failed is not None:
        return failed
    return min(found) if found else math.nan
