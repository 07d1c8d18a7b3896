"""Adaptive execution in the sandbox: the planner of `adaptive.py`, many problems at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from codegen_eval.ranking.adaptive import (
    AdaptiveOptions,
    Progress,
    best_codes,
    leave,
    next_cells,
    record,
)
from codegen_eval.ranking.raced import Race
from sandbox import MatrixJob, PassMatrix, Verdict
from sandbox.matrix import UNKNOWN, distinct, key_of_test

_PASSED, _SYNTAX_ERROR = (list(Verdict).index(v) for v in (Verdict.passed, Verdict.syntax_error))


class MatrixRunner(Protocol):
    """What adaptive execution needs of a sandbox."""

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Matrices of jobs, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class AdaptiveMatrix:
    """What adaptive execution found of one problem.

    Attributes:
        matrix: Distinct codes x distinct tests; cells that were not run are unknown.
        best: Distinct codes that the rule holds best, all ties.
        executions: Cells that were run.
        saved: Cells that were not.
        race: How far each distinct code came.
    """

    matrix: PassMatrix
    best: tuple[int, ...]
    executions: int
    saved: int
    race: Race


class _Race:
    """One problem: its distinct codes and tests, and what is known of them."""

    def __init__(self, job: MatrixJob) -> None:
        self.job = job
        self.codes, self._code_index = distinct(job.codes, job.codes)
        self.tests, self._test_index = distinct(job.tests, map(key_of_test, job.tests))
        self.progress = Progress.start(len(self.codes), len(self.tests))
        self.verdicts: NDArray[np.uint8] = np.full((len(self.codes), len(self.tests)), UNKNOWN, np.uint8)
        self.stateful, self.forgeable = (np.zeros(size, np.bool_) for size in self.verdicts.shape)
        self.asked = self.progress.known.copy()
        self.next: tuple[list[int], list[int]] = ([], [])

    def plan(self, options: AdaptiveOptions) -> bool:
        """Decides what to run next; whether there is anything."""
        self.next = next_cells(self.progress, options)
        return bool(self.next[0])

    def part(self) -> MatrixJob:
        """The job of what is to run next."""
        codes, tests = self.next
        return replace(self.job, codes=[self.codes[i] for i in codes], tests=[self.tests[j] for j in tests])

    def take(self, matrix: PassMatrix, options: AdaptiveOptions, drop_unloadable: bool) -> None:
        """Records a part's outcome; programs leave the race."""
        codes, tests = self.next
        found = matrix.verdicts[np.ix_(matrix.code_index, matrix.test_index)]
        self.verdicts[np.ix_(codes, tests)] = found
        self.asked[np.ix_(codes, tests)] = True
        self.stateful[codes] |= matrix.stateful[matrix.code_index]
        self.forgeable[tests] |= matrix.forgeable[matrix.test_index]
        record(self.progress, codes, tests, found == _PASSED)
        if drop_unloadable:
            broken = (self.verdicts == _SYNTAX_ERROR).any(axis=1)
            self.progress.put_aside(broken)
            # It would not compile for the other tests either: that is known, and counted as if it had run,
            # as in a full matrix.
            self.verdicts[broken], self.asked[broken] = _SYNTAX_ERROR, True
        self.progress.live = leave(self.progress, options)

    def result(self, options: AdaptiveOptions) -> AdaptiveMatrix:
        """What is known at the end."""
        index = [np.asarray(places, np.int64) for places in (self._code_index, self._test_index)]
        counts = [
            np.bincount(places, minlength=size)
            for places, size in zip(index, self.verdicts.shape, strict=True)
        ]
        ran = int(self.asked.sum())
        return AdaptiveMatrix(
            PassMatrix(
                self.verdicts, counts[0], counts[1], index[0], index[1], self.stateful, self.forgeable
            ),
            best_codes(self.progress, options),
            ran,
            self.verdicts.size - ran,
            Race(self.asked, self.progress.live, options.least),
        )


def run_adaptive(
    jobs: Sequence[MatrixJob],
    runner: MatrixRunner,
    options: AdaptiveOptions,
    *,
    drop_unloadable: bool = False,
) -> list[AdaptiveMatrix]:
    """Fills the matrices of problems round by round, each only where the choice is still open.

    Args:
        jobs: The problems; equal codes and equal tests are folded, and the rule counts each once.
        runner: A sandbox; gets the parts of all open problems as one stream in each round.
        options: The rule and its sizes.
        drop_unloadable: Programs that do not compile leave at once and count nowhere, as in
            `RankOptions.drop_unloadable`.

    Returns:
        One entry a job, in their order.
    """
    races = [_Race(job) for job in jobs]
    while running := [race for race in races if race.plan(options)]:
        matrices = runner.pass_matrices(race.part() for race in running)
        for race, matrix in zip(running, matrices, strict=True):
            race.take(matrix, options, drop_unloadable)
    return [race.result(options) for race in races]
