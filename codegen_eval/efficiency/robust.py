"""Efficiency scores that a busy machine does not spoil: ENAMEL's formula, measured another way.

Departs from the authors' procedure in how times are found: CPU time, read outside the program's process;
reference and program call by call in turn on one core, each in a fresh process every round; calls too short
for the clock in rows. A score depends on nothing but how many times as long as the reference a program takes,
so that is what is estimated, from quotients within rounds (metrics/paired_times.py), and rounds are added
until the score's standard error is small. Whether a program is right is decided elsewhere (grading.py), with
limits that have nothing to do with the score's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codegen_eval.efficiency.grading import Yardstick, grade, yardstick
from codegen_eval.efficiency.scores import Score, Scored, Settings, failed
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.enamel import score_levels, time_limit
from codegen_eval.metrics.paired_times import quotient
from codegen_eval.records import Problem
from sandbox import Sandbox, TimingJob

GOOD_ENOUGH = 0.02  # standard error of a score
MOST_TIMES = 5  # as many rounds as asked
FEWEST, MOST = 3, 12  # rounds of a job after the first: each has to learn what arguments take to cross
ROW_SECONDS = 0.001
ABREAST = 4  # processes that live at once: the reference's, and of programs that are timed beside it
LEAST = 1e-8  # seconds; no call takes less, but the difference of two clocks may be nothing
Times = NDArray[np.float64]


def robust(problem: Problem, sources: Sequence[str], box: Sandbox, settings: Settings) -> Scored:
    """Scores whole programs against the problem's reference.

    Raises:
        CodealignError: If the problem has no graded inputs, or its reference fails or cannot be timed.
    """
    measure = yardstick(problem, box)
    grades = grade(measure, sources, box)
    hardness = measure.graded.hardness
    scores: list[Score] = [failed(hardness, given.cause) for given in grades]
    right = [i for i, given in enumerate(grades) if given.passed]
    rounds = Rounds(measure, [(sources[i], grades[i].completed) for i in right])
    rounds.run(box, settings)
    reference = rounds.reference()
    for place, i in enumerate(right):
        found = rounds.score(place, settings.alpha)
        seconds = tuple(t if weight > 0 else None for t, weight in zip(found.seconds, hardness, strict=True))
        scores[i] = replace(found, cause=grades[i].cause, seconds=seconds)
    seconds = tuple(t if weight > 0 else None for t, weight in zip(reference, hardness, strict=True))
    return Scored(tuple(scores), seconds, time_limit(reference, hardness, settings.alpha), rounds.noise)


class Rounds:
    """Rounds in which a reference and programs are timed, each program on the levels that it completed."""

    def __init__(self, measure: Yardstick, programs: Sequence[tuple[str, int]]) -> None:
        self.noise = 0.0
        self._measure = measure
        self._programs = programs
        self._weighty = [level for level, weight in enumerate(measure.graded.hardness) if weight > 0]
        # Seconds (tests, rounds) of the reference, and side by side (reference and program, tests, rounds).
        self._reference: dict[int, list[Times]] = {level: [] for level in self._weighty}
        self._pairs: list[dict[int, list[Times]]] = [{} for _ in programs]

    def run(self, box: Sandbox, settings: Settings) -> None:
        """Time until the error of every score is small, or `MOST_TIMES` as many rounds as asked were made.

        Raises:
            CodealignError: If the reference cannot be timed.
        """
        self._pass(
            box,
            {
                place: (tuple(level for level in self._weighty if level < completed), settings.repeats)
                for place, (_, completed) in enumerate(self._programs)
            },
        )
        # The time limit needs the reference's other levels, too.
        self._add(box, settings.repeats, [level for level in self._weighty if not self._reference[level]], [])
        made = settings.repeats
        while made < MOST_TIMES * settings.repeats:
            left = {
                place: found
                for place in range(len(self._programs))
                if (found := self._wanting(place, settings.alpha)) is not None
            }
            if not left:
                break
            self._pass(box, left)
            made += max(rounds for _, rounds in left.values())

    def _pass(self, box: Sandbox, plan: Mapping[int, tuple[tuple[int, ...], int]]) -> None:
        """Time programs, each on its levels and as often as planned; those of equal levels beside each
        other.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, (levels, _) in plan.items():
            groups.setdefault(levels, []).append(place)
        for levels, places in groups.items():
            for start in range(0, len(places), ABREAST - 1):
                beside = places[start : start + ABREAST - 1]
                self._add(box, max(plan[place][1] for place in beside), levels, beside)

    def _wanting(self, place: int, alpha: float) -> tuple[tuple[int, ...], int] | None:
        """The levels that a program's error comes from, and how many rounds more would make it small; None
        where it is. An error falls with their square root.
        """
        variances = self._measured(place, alpha)[1]
        if sum(variances.values()) <= GOOD_ENOUGH**2:
            return None
        levels = tuple(level for level, found in variances.items() if found > GOOD_ENOUGH**2 / len(variances))
        of_those = sum(variances[level] for level in levels)
        allowed = GOOD_ENOUGH**2 - sum(variances.values()) + of_those
        made = max(sum(pair.shape[-1] for pair in self._pairs[place][level]) for level in levels)
        return levels, min(max(math.ceil(made * (of_those / allowed - 1)), FEWEST), MOST)

    def reference(self) -> tuple[float, ...]:
        """Seconds of each level's slowest test; 0 for levels that do not count."""
        return tuple(
            float(self._tests(level).max()) if level in self._reference else 0.0
            for level in range(len(self._measure.graded.hardness))
        )

    def _tests(self, level: int) -> Times:
        """The reference's seconds of each test, the median over rounds."""
        return np.median(np.concatenate(self._reference[level], axis=1), axis=1)

    def score(self, place: int, alpha: float) -> Score:
        """The score of a program, from its quotients and the reference's times."""
        seconds, variances = self._measured(place, alpha)
        scored = score_levels(self.reference(), seconds, self._measure.graded.hardness, alpha)
        error = math.sqrt(sum(variances.values()))
        return Score(True, scored.value, scored.levels, seconds=tuple(seconds), error=error)

    def _measured(self, place: int, alpha: float) -> tuple[list[float | None], dict[int, float]]:
        """A program's seconds of each level's slowest test, and what each level adds to the variance of its
        score.
        """
        hardness, ours = self._measure.graded.hardness, self.reference()
        limit = time_limit(ours, hardness, alpha)
        seconds: list[float | None] = []
        variances: dict[int, float] = {}
        for level, (weight, least) in enumerate(zip(hardness, ours, strict=True)):
            if level >= self._programs[place][1] or (seconds and seconds[-1] is None):
                seconds.append(None)
            elif weight == 0:
                seconds.append(0.0)
            else:
                pair = np.concatenate(self._pairs[place][level], axis=2)
                if not np.all(np.isfinite(pair)):
                    seconds.append(None)
                    continue
                # Of every test first, then the slowest: the largest of times that vary is of another test
                # in every round, and then the reference's and the program's are no neighbours.
                found, each = quotient(*pair), self._tests(level)
                slowest = int(np.argmax(each * found.value))
                taken = float(each[slowest] * found.value[slowest])
                seconds.append(taken)
                if taken < limit:
                    error = float(each[slowest] * found.error[slowest])
                    variances[level] = (weight * error / (limit - least) / sum(hardness)) ** 2
        return seconds, variances

    def _add(self, box: Sandbox, rounds: int, levels: Sequence[int], places: Sequence[int]) -> None:
        """Time the reference and some programs on some levels."""
        if not levels:
            return
        graded = self._measure.graded
        answers = [answer for level in levels for answer in self._measure.answers[level]]
        job = TimingJob(
            [self._measure.problem.reference, *(self._programs[place][0] for place in places)],
            self._measure.problem.entry_point,
            [call for level in levels for call in graded.levels[level]],
            rounds,
            self._measure.limits,
            spread=math.inf,
            # A checker of the benchmark's own takes answers that differ from the reference's.
            expected=None if graded.checker else answers,
            row_seconds=ROW_SECONDS,
            every_core=True,
            abreast=1 + len(places),
        )
        (timing,) = box.measure([job])
        self.noise = max(self.noise, timing.noise)
        ends = np.cumsum([len(graded.levels[level]) for level in levels])[:-1]
        # What was stopped, or did not give what it gave before, has no time.
        cells = np.where(np.isfinite(timing.seconds)[..., None], np.maximum(timing.rounds, LEAST), np.inf)
        for level, tests in zip(levels, np.split(cells, ends, axis=1), strict=True):
            if not np.all(np.isfinite(tests[0])):
                raise CodealignError(
                    f"{self._measure.problem.task_id}: the reference could not be timed on level {level}"
                )
            self._reference[level].append(tests[0])
            for place, times in zip(places, tests[1:], strict=True):
                self._pairs[place].setdefault(level, []).append(np.stack([tests[0], times]))
