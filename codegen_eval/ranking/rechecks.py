"""Hygiene that runs programs again: cells that change their outcome, and canary tests known to be false.

A canary asks a call of the problem for a text that no program can know (`f(1) == 'canary-3f...'`). Whoever
passes one makes tests pass that are false (an object equal to everything, an exit before the assertion), and
is put aside. Contested cells, of tests that some programs pass and some fail, are run again, each in a
process of its own: a program whose outcome changes on two tests or more is put aside; a test on which the
outcome of any other program changes is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codegen_eval.extraction import to_test
from codegen_eval.ranking.common import BoolArray
from codegen_eval.ranking.hygiene import Cleaned
from codegen_eval.ranking.rows import MatrixRow
from sandbox import CallTest, CodeTest, Limits, MatrixJob, PassMatrix

REPEATS = 2
CANARIES = 2


class MatrixRunner(Protocol):
    """What rechecks need of a sandbox."""

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Matrices of jobs, in their order."""
        ...


def canaries(row: MatrixRow, count: int = CANARIES, seed: int = 0) -> list[CodeTest]:
    """Up to `count` tests that are false whatever the entry point does: calls of the row's tests, asked for a
    text made of the seed and the call.

    They are source, not data: a `CallTest` compares outside the program's process, where nothing can detect
    it.
    """
    calls: dict[str, None] = {}
    for text in row.tests:
        test = to_test(text, row.entry_point)
        if isinstance(test, CallTest):
            calls.setdefault(", ".join(map(repr, test.args)))
    found = []
    for call in list(calls)[:count]:
        nonce = hashlib.sha256(f"{seed}\0{row.task_id}\0{call}".encode("utf-8", "surrogatepass")).hexdigest()
        found.append(CodeTest(f"assert {row.entry_point}({call}) == 'canary-{nonce[:24]}'"))
    return found


@dataclass(frozen=True, slots=True)
class _Plan:
    codes: list[int]
    contested: list[int]
    canaries: list[CodeTest]


def _plan(row: MatrixRow, left: Cleaned, taking_part: Sequence[int], seed: int) -> _Plan:
    codes = [i for i in taking_part if i not in left.aside]
    passed, failed = row.passed[codes], row.failed[codes]
    contested = [j for j in left.tests if passed[:, j].any() and failed[:, j].any()]
    return _Plan(codes, contested, canaries(row, seed=seed))


def _jobs(row: MatrixRow, plan: _Plan, limits: Limits | None, seed: int) -> Iterator[MatrixJob]:
    tests = [to_test(row.tests[j], row.entry_point) for j in plan.contested]
    for repeat in range(REPEATS):
        wanted = [*tests, *plan.canaries] if repeat == 0 else tests
        yield MatrixJob(
            codes=[row.codes[i] for i in plan.codes],
            tests=wanted,
            entry_point=row.entry_point,
            limits=limits,
            id=row.task_id,
            mode="independent",
            seed=seed + 1 + repeat,
        )


def recheck(
    rows: Sequence[MatrixRow],
    cleaned: Sequence[Cleaned],
    taking_part: Sequence[Sequence[int]],
    runner: MatrixRunner,
    *,
    limits: Limits | None = None,
    seed: int = 0,
) -> None:
    """Runs contested cells and canaries of all rows and takes what fails out of `cleaned`, with its counts.

    Args:
        rows: The problems.
        cleaned: What `hygiene.clean` left of each; changed in place.
        taking_part: The programs of each that are ranked.
        runner: A sandbox.
        limits: Limits of a cell; the sandbox's own when absent.
        seed: Of the canaries and of the order of tests.
    """
    plans = [
        _plan(row, left, codes, seed) for row, left, codes in zip(rows, cleaned, taking_part, strict=True)
    ]
    jobs = (job for row, plan in zip(rows, plans, strict=True) for job in _jobs(row, plan, limits, seed))
    matrices = runner.pass_matrices(jobs)
    for row, left, plan in zip(rows, cleaned, plans, strict=True):
        changed = np.zeros((len(plan.codes), len(plan.contested)), dtype=np.bool_)
        caught = np.zeros(len(plan.codes), dtype=np.bool_)
        for _ in range(REPEATS):
            passed, known = _given(next(matrices))
            width = len(plan.contested)
            before = row.passed[np.ix_(plan.codes, plan.contested)]
            # A cell that was left unknown, then or now, says nothing of chance.
            ran = known[:, :width] & (before | row.failed[np.ix_(plan.codes, plan.contested)])
            changed |= ran & (passed[:, :width] != before)
            caught |= passed[:, width:].any(axis=1)
        _take_out(left, plan, changed, caught)


def _given(matrix: PassMatrix) -> tuple[BoolArray, BoolArray]:
    """Passed and known cells for the codes and tests as they were given."""
    place = np.ix_(matrix.code_index, matrix.test_index)
    return np.asarray(matrix.passed[place], np.bool_), np.asarray(matrix.known[place], np.bool_)


def _take_out(left: Cleaned, plan: _Plan, changed: BoolArray, caught: BoolArray) -> None:
    """Canary passers first, then unsteady programs, then tests on which others change."""
    unsteady = (changed.sum(axis=1) >= 2) & ~caught
    flaky = changed[~(caught | unsteady)].any(axis=0)
    left.aside |= {plan.codes[i] for i in np.flatnonzero(caught | unsteady)}
    dropped = {plan.contested[j] for j in np.flatnonzero(flaky)}
    left.tests = [j for j in left.tests if j not in dropped]
    left.counts["canaries"] += len(plan.canaries)
    left.counts["cells_run_again"] += REPEATS * changed.size
    left.counts["cells_changed"] += int(changed.sum())
    left.counts["programs_passing_canaries"] += int(caught.sum())
    left.counts["programs_unsteady"] += int(unsteady.sum())
    left.counts["tests_flaky"] += len(dropped)
