"""Efficiency scores that a busy machine does not spoil: ENAMEL's formula, measured another way.

Departs from the authors' procedure in how times are found: CPU time, read outside the program's process;
reference and program in turn on one core, in a fresh process every round; calls too short for the clock in
rows; the least of the repeats counts, since noise only adds, and a call is timed until its two least halves
of repeats agree. Whether a program is right is decided elsewhere (grading.py), with limits that have nothing
to do with the score's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codegen_eval.efficiency.grading import Grade, Yardstick, grade, yardstick
from codegen_eval.efficiency.scores import Score, Scored, Settings, failed
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.enamel import score_levels, time_limit
from codegen_eval.records import Problem
from sandbox import Sandbox, TimingJob

SETTLED = 0.03
MOST_TRIES = 6
ROW_SECONDS = 0.001
LEAST = 1e-8  # seconds; no call takes less, but the difference of two clocks may be nothing
Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A problem's programs before they are timed."""

    measure: Yardstick
    sources: Sequence[str]
    grades: Sequence[Grade]


def robust(problem: Problem, sources: Sequence[str], box: Sandbox, settings: Settings) -> Scored:
    """Scores whole programs against the problem's reference.

    Raises:
        CodealignError: If the problem has no graded inputs, or its reference fails or cannot be timed.
    """
    return timed(prepared(problem, sources, box), box, settings)


def prepared(problem: Problem, sources: Sequence[str], box: Sandbox) -> Prepared:
    """Makes the inputs, asks the reference, and finds out which programs are right.

    Raises:
        CodealignError: If the problem has no graded inputs, or its reference fails.
    """
    measure = yardstick(problem, box)
    return Prepared(measure, sources, grade(measure, sources, box))


def timed(work: Prepared, box: Sandbox, settings: Settings) -> Scored:
    """Times the right programs.

    Raises:
        CodealignError: If the reference cannot be timed.
    """
    measure, sources, grades = work.measure, work.sources, work.grades
    hardness = measure.graded.hardness
    scores: list[Score] = [failed(hardness, given.cause) for given in grades]
    reference: tuple[float | None, ...] = ()
    noise = 0.0
    groups: dict[int, list[int]] = {}
    for i, given in enumerate(grades):
        if given.passed:
            groups.setdefault(given.completed, []).append(i)
    for completed, chosen in (groups or {len(hardness): []}).items():
        times, varied = _times(measure, [sources[i] for i in chosen], completed, box, settings)
        noise = max(noise, varied)
        for i, row in zip(chosen, times[1:], strict=True):
            scores[i] = _score(measure, grades[i], times[0], row, settings.alpha)
        reference = tuple(None if np.isnan(t) else float(t) for t in times[0])
    limit = time_limit([t or 0.0 for t in reference], hardness, settings.alpha)
    return Scored(tuple(scores), reference, limit, noise)


def _times(
    measure: Yardstick, sources: Sequence[str], completed: int, box: Sandbox, settings: Settings
) -> tuple[Times, float]:
    """Seconds (reference and sources, levels) and how much the machine varied.

    The reference is timed on all levels that count. A source's level is NaN where it was not timed, infinite
    where a call was stopped or did not give what it gave before.
    """
    levels = [level for level, weight in enumerate(measure.graded.hardness) if weight > 0]
    problem = measure.problem
    out = np.full((1 + len(sources), len(measure.graded.levels)), np.nan)
    noise = 0.0
    for chosen, timed in (
        ([problem.reference, *sources], [level for level in levels if level < completed]),
        ([problem.reference], [level for level in levels if level >= completed]),
    ):
        if not timed:
            continue
        least, varied = _least(measure, chosen, timed, box, settings)
        noise = max(noise, varied)
        counts = [len(measure.graded.levels[level]) for level in timed]
        for level, cells in zip(timed, np.split(least, np.cumsum(counts)[:-1], axis=1), strict=True):
            out[: len(chosen), level] = np.maximum(cells.max(axis=1), LEAST)
    if not np.all(np.isfinite(out[0, levels])):
        raise CodealignError(
            f"{problem.task_id}: the reference could not be timed: {out[0, levels].tolist()}"
        )
    return out, noise


def _least(
    measure: Yardstick, sources: Sequence[str], levels: Sequence[int], box: Sandbox, settings: Settings
) -> tuple[Times, float]:
    """The least seconds (sources, calls) on some levels, and how much the machine varied.

    Half of the repeats are made at a time, by new processes; a call is timed until the two least halves of
    every source agree to `SETTLED`, or `MOST_TRIES` have been made.
    """
    calls = [call for level in levels for call in measure.graded.levels[level]]
    answers = [answer for level in levels for answer in measure.answers[level]]
    halves: list[Times] = []
    noise = 0.0
    left = list(range(len(calls)))
    while left and len(halves) < MOST_TRIES:
        job = TimingJob(
            sources,
            measure.problem.entry_point,
            [calls[i] for i in left],
            max(1, settings.repeats // 2),
            measure.limits,
            spread=math.inf,
            # A checker of the benchmark's own takes answers that differ from the reference's.
            expected=None if measure.graded.checker else [answers[i] for i in left],
            row_seconds=ROW_SECONDS,
        )
        (timing,) = box.measure([job])
        noise = max(noise, timing.noise)
        half = np.full((len(sources), len(calls)), np.inf if halves else np.nan)
        half[:, left] = timing.seconds
        halves.append(half)
        if len(halves) > 1:
            left = [i for i in left if not _settled(np.stack([h[:, i] for h in halves]))]
    return np.minimum.reduce(halves), noise


def _settled(found: Times) -> bool:
    """Whether the two least of each source's times (tries, sources) agree; what has no time is settled."""
    ordered = np.sort(found, axis=0)
    first, second = np.maximum(ordered[0], LEAST), np.maximum(ordered[1], LEAST)
    with np.errstate(invalid="ignore"):
        return bool(np.all((second <= (1 + SETTLED) * first) | ~np.isfinite(first) | np.isnan(second)))


def _score(measure: Yardstick, given: Grade, reference: Times, times: Times, alpha: float) -> Score:
    hardness = measure.graded.hardness
    ours = [0.0 if np.isnan(t) else float(t) for t in reference]
    completed: list[float | None] = []
    for level, weight in enumerate(hardness):
        if level >= given.completed:
            completed.append(None)
        elif weight == 0:
            completed.append(0.0)
        else:
            completed.append(float(times[level]) if np.isfinite(times[level]) else None)
    found = score_levels(ours, completed, hardness, alpha)
    seconds = tuple(t if weight > 0 else None for t, weight in zip(completed, hardness, strict=True))
    return Score(True, found.value, found.levels, given.cause, seconds)
