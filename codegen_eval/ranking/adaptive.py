"""Adaptive execution: run only the cells that can still change which programs are best.

The planner is pure. It sees the cells known so far and names the next rectangle, programs still in the race
x the next tests; `adaptive_run.py` has a sandbox fill the rectangles of many problems at once. Programs leave
the race by a rule:

- `maxpass` leaves out a program once all tests that it has not met could not lift it to the best one. Sure:
  the best programs, with all ties, are those of the full matrix under MaxPass (and so DSTC's and AceCoder's).
- `b4` leaves out a program once the probability that it is right, under flat priors, falls below `least`.
  Programs out of the race count as wrong; cells of theirs that were not run say nothing and leave B4's
  counts. Not sure: a program could come back. How often the choice stays the same is measured
  (docs/ranking.md).

A race ends, tests left or not, when one program is left. Executions are cells, not seconds: a
program that runs its tests in several rounds starts several processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.b4 import (
    SetCounts,
    default_hyperparameters,
    log_posterior,
)
from codegen_eval.ranking.common import (
    BoolArray,
    ConsensusSets,
    FloatArray,
    consensus_sets,
    set_sizes,
    tie_levels,
)
from codegen_eval.ranking.posterior import probabilities

# Priors that say nothing: B4's own make few tests look decisive.
FLAT = (1.0, 1.0)
Rule = Literal["maxpass", "b4"]


@dataclass(frozen=True, slots=True)
class AdaptiveOptions:
    """How cells are chosen.

    Attributes:
        rule: By what programs leave the race.
        batch: Tests of a round.
        least: `b4`: probability of being right under which a program leaves the race, in [0, 1).
        warm_up: `b4`: tests that every program meets before any leaves.
        alpha_xy: B4's; None = default for the matrix.
        beta_0: B4's; None = default for the matrix.

    Raises:
        CodealignError: A value out of its range.
    """

    rule: Rule = "b4"
    batch: int = 4
    least: float = 1e-4
    warm_up: int = 8
    alpha_xy: float | None = None
    beta_0: float | None = None

    def __post_init__(self) -> None:
        if self.rule not in ("maxpass", "b4"):
            raise CodealignError(f"rule is {self.rule!r}; choose from maxpass, b4")
        if self.batch < 1 or self.warm_up < 0:
            raise CodealignError(f"batch is {self.batch} and warm_up {self.warm_up}; give at least 1 and 0")
        if not 0 <= self.least < 1:
            raise CodealignError(f"least is {self.least}; give a probability below 1")


@dataclass(slots=True)
class Progress:
    """Cells known so far of one problem.

    Attributes:
        passed: bool (codes, tests).
        known: bool (codes, tests): was run.
        live: bool (codes,): still in the race.
        done: Tests that the live programs have met, in the order of the columns.
        aside: bool (codes,): takes no part and counts nowhere, as programs that do not compile.
    """

    passed: BoolArray
    known: BoolArray
    live: BoolArray
    done: int
    aside: BoolArray

    @classmethod
    def start(cls, codes: int, tests: int) -> Progress:
        """Nothing is known, everybody is in the race."""
        empty, live = np.zeros((codes, tests), dtype=np.bool_), np.ones(codes, dtype=np.bool_)
        return cls(empty, empty.copy(), live, 0, ~live)

    @property
    def executions(self) -> int:
        """Cells that were run, but for those of programs put aside."""
        return int(self.known.sum())

    def put_aside(self, codes: BoolArray) -> None:
        """Programs (codes,) that take no part from now on; what is known of them goes."""
        self.aside |= codes
        self.live &= ~codes
        self.passed[codes] = self.known[codes] = False


def known_scores(progress: Progress, options: AdaptiveOptions) -> FloatArray:
    """B4's log posterior (codes,) from known cells alone; minus infinity for programs out of the race."""
    codes, tests = progress.passed.shape
    defaults = default_hyperparameters(int((~progress.aside).sum()), tests)
    alpha_xy = defaults[0] if options.alpha_xy is None else options.alpha_xy
    beta_0 = defaults[1] if options.beta_0 is None else options.beta_0
    sets, counts = known_counts(progress)
    scores = np.full(codes, -np.inf)
    scores[progress.live] = log_posterior(counts, alpha_xy, beta_0)[sets.set_of]
    return scores


def known_counts(progress: Progress) -> tuple[ConsensusSets, SetCounts]:
    """Consensus sets of the live programs (numbered among themselves) over the tests that they have met, and
    their counts: all other programs count where they were run.
    """
    live, met = np.flatnonzero(progress.live), slice(0, progress.done)
    sets = consensus_sets(progress.passed[live][:, met])
    size = set_sizes(sets, np.ones(len(live)))
    passed, known = (m[:, met].sum(axis=0).astype(np.float64) for m in (progress.passed, progress.known))
    k = sets.rows.sum(axis=1).astype(np.float64)
    e1 = sets.rows @ passed - size * k
    m1 = sets.rows @ known - size * k
    e0 = ~sets.rows @ passed
    m0 = ~sets.rows @ known - size * (progress.done - k)
    codes = float((~progress.aside).sum())
    return sets, SetCounts(size, k, e1, m1, e0, m0, codes, float(progress.done), True)


def leave(progress: Progress, options: AdaptiveOptions) -> BoolArray:
    """Programs (codes,) that stay in the race; at least one where there was one."""
    if options.rule == "maxpass":
        passes = progress.passed.sum(axis=1)
        possible = passes + progress.passed.shape[1] - progress.done
        return np.asarray(progress.live & (possible >= passes[progress.live].max(initial=0)))
    if progress.done < options.warm_up:
        return progress.live
    sets, counts = known_counts(progress)
    right = probabilities(counts, *FLAT)[0]
    stay = progress.live.copy()
    stay[progress.live] = (right >= min(options.least, float(right.max(initial=0.0))))[sets.set_of]
    return stay


def next_cells(progress: Progress, options: AdaptiveOptions) -> tuple[list[int], list[int]]:
    """The rectangle to run next: programs and tests; empty when nothing left can change the choice."""
    codes = [int(i) for i in np.flatnonzero(progress.live)]
    tests = list(range(progress.done, min(progress.done + options.batch, progress.passed.shape[1])))
    # The last program is best whatever it does, if the others cannot come back.
    return ([], []) if len(codes) < 2 or not tests else (codes, tests)


def record(progress: Progress, codes: Sequence[int], tests: Sequence[int], passed: BoolArray) -> None:
    """Takes the outcome (codes, tests) of a rectangle that `next_cells` named."""
    place = np.ix_(codes, tests)
    progress.passed[place] = passed
    progress.known[place] = True
    progress.done = max(tests) + 1


def best_codes(progress: Progress, options: AdaptiveOptions) -> tuple[int, ...]:
    """The programs that the rule holds best by what is known, all ties."""
    if not progress.live.any():
        return ()
    if options.rule == "b4":
        return tie_levels(known_scores(progress, options))[0]
    passes = np.where(progress.live, progress.passed.sum(axis=1), -1)
    return tuple(int(i) for i in np.flatnonzero(passes == passes.max()))


def replay(passed: BoolArray, options: AdaptiveOptions) -> Progress:
    """Adaptive execution of a full matrix: its cells are looked up, not run."""
    progress = Progress.start(*passed.shape)
    while True:
        codes, tests = next_cells(progress, options)
        if not codes:
            return progress
        record(progress, codes, tests, passed[np.ix_(codes, tests)])
        progress.live = leave(progress, options)
