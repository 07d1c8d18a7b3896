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
from sandbox import MatrixJob, PassMatrix, Verdict
from sandbox.matrix import UNKNOWN, distinct, key_of_test

_PASSED = list(Verdict).index(Verdict.passed)


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
    """

    matrix: PassMatrix
    best: tuple[int, ...]
    executions: int
    saved: int


class _Race:
    """One problem: its distinct codes and tests, and what is known of them."""

    def __init__(self, job: MatrixJob) -> None:
        self.job = job
        self.codes, self._code_index = distinct(job.codes, job.codes)
        self.tests, self._test_index = distinct(job.tests, map(key_of_test, job.tests))
        self.progress = Progress.start(len(self.codes), len(self.tests))
        self.verdicts: NDArray[np.uint8] = np.full((len(self.codes), len(self.tests)), UNKNOWN, np.uint8)
        self.next: tuple[list[int], list[int]] = ([], [])

    def plan(self, options: AdaptiveOptions) -> bool:
        """Decides what to run next; whether there is anything."""
        self.next = next_cells(self.progress, options)
        return bool(self.next[0])

    def part(self) -> MatrixJob:
        """The job of what is to run next."""
        codes, tests = self.next
        return replace(self.job, codes=[self.codes[i] for i in codes], tests=[self.tests[j] for j in tests])

    def take(self, matrix: PassMatrix, options: AdaptiveOptions) -> None:
        """Records a part's outcome; programs leave the race."""
        codes, tests = self.next
        found = matrix.verdicts[np.ix_(matrix.code_index, matrix.test_index)]
        self.verdicts[np.ix_(codes, tests)] = found
        record(self.progress, codes, tests, found == _PASSED)
        self.progress.live = leave(self.progress, options)

    def result(self, options: AdaptiveOptions) -> AdaptiveMatrix:
        """What is known at the end."""
        index = [np.asarray(places, np.int64) for places in (self._code_index, self._test_index)]
        counts = [
            np.bincount(places, minlength=size)
            for places, size in zip(index, self.verdicts.shape, strict=True)
        ]
        ran = self.progress.executions
        return AdaptiveMatrix(
            PassMatrix(self.verdicts, counts[0], counts[1], index[0], index[1]),
            best_codes(self.progress, options),
            ran,
            self.verdicts.size - ran,
        )


def run_adaptive(
    jobs: Sequence[MatrixJob], runner: MatrixRunner, options: AdaptiveOptions
) -> list[AdaptiveMatrix]:
    """Fills the matrices of problems round by round, each only where the choice is still open.

    Args:
        jobs: The problems; equal codes and equal tests are folded, and the rule counts each once.
        runner: A sandbox; gets the parts of all open problems as one stream in each round.
        options: The rule and its sizes.

    Returns:
        One entry a job, in their order.
    """
    races = [_Race(job) for job in jobs]
    while running := [race for race in races if race.plan(options)]:
        matrices = runner.pass_matrices(race.part() for race in running)
        for race, matrix in zip(running, matrices, strict=True):
            race.take(matrix, options)
    return [race.result(options) for race in races]
