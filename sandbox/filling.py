"""Fills a pass matrix: one job of the engine a distinct code, then re-runs of what is in doubt.

A code runs its tests in one process, which is fast, but what it keeps between calls (caches, changed
defaults, globals, `random`) can change later answers. So the order of the tests is drawn anew for every
code, and then

1. the cells that failed are run again in a fresh process, in the opposite order (where only tests that came
   first in a process failed, one that passed is run first instead);
2. a drawn share of the codes is run again as a whole, in the opposite order;
3. a code of which any outcome differs is marked as stateful, and all its cells are run independently of each
   other, each in a process that has loaded the program and nothing else.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import orders
from .cells import Job, Judge
from .client import Client
from .limits import Limits
from .matrix import UNKNOWN, VERDICTS, MatrixJob, PassMatrix, distinct, key_of_test
from .program import CallTest, Test, check_job
from .verdict import CellResult, Verdict


class Row(Job):
    """One run of one code: what became of the tests in `order`."""

    def __init__(self, judges: Sequence[Judge], order: Sequence[int], independent: bool) -> None:
        super().__init__([judges[i] for i in order], False)
        self.order = order
        self.independent = independent
        self.fresh = {0}  # places in the order that were first in their process
        self.number = 0

    def __call__(self, message: tuple[Any, ...]) -> None:
        """Take one message of the engine."""
        if message[0] == "process":
            self.fresh.add(message[2])
        else:
            super().__call__(message)

    def outcomes(self) -> dict[int, tuple[int, str]]:
        """Verdict (index) and cause of every test that has one."""
        cells = list(self.cells)
        if self.load_failed is not None:
            cells += [self.load_failed] * (len(self.order) - len(cells))
        return {i: _outcome(cell) for i, cell in zip(self.order, cells, strict=False)}

    def failed(self) -> list[int]:
        """Places in the order whose test ran and failed."""
        return [at for at, cell in enumerate(self.cells) if cell.verdict is not Verdict.passed]


class MatrixRun:
    """A matrix under way. `decided` moves it on."""

    def __init__(self, client: Client, number: int, job: MatrixJob, limits: Limits) -> None:
        for code in job.codes:
            check_job(code, job.entry_point, job.tests)
        self._client = client
        self._set = number
        self._job = job
        self._limits = limits
        self._codes, self._code_index = distinct(job.codes, job.codes)
        self._tests, self._test_index = distinct(job.tests, map(key_of_test, job.tests))
        self._judges = [Judge(test) for test in self._tests]
        self._stateful: set[int] = set()
        client.send(("tests", number, [test.wire() for test in self._tests]))
        alone = job.mode == "independent"
        self._rows = [self._start(place, self._drawn(place), alone) for place in range(len(self._codes))]
        self._outcomes: list[dict[int, tuple[int, str]]] = []
        self._again: dict[int, Row] = {}
        self._stages: list[Callable[[], None]] = [self._keep]
        if job.mode == "checked" and not orders.whole(self._tests, "python"):  # else independent anyway
            self._stages += [self._doubt, self._compare, self._replace]

    @property
    def decided(self) -> bool:
        """Whether all is known; begins the next stage when the last one is complete."""
        while all(row.done for row in self._under_way()):
            if any(row.infra for row in self._under_way()) or not self._stages:
                return True
            self._stages.pop(0)()
        return False

    def _under_way(self) -> Sequence[Row]:
        return list(self._again.values()) if self._again else self._rows

    def _chance(self, place: int) -> random.Random:
        """Random numbers that belong to a code, whatever else is in the matrix."""
        digest = hashlib.sha256(self._codes[place].encode("utf-8", "surrogatepass")).digest()
        return random.Random(int.from_bytes(digest[:8], "little") ^ self._job.seed)

    def _drawn(self, place: int) -> list[int]:
        """Calls first, since those that follow each other go out in one piece."""
        order = list(range(len(self._tests)))
        if self._job.mode == "checked":
            self._chance(place).shuffle(order)
        return sorted(order, key=lambda i: not isinstance(self._tests[i], CallTest))

    def _start(self, place: int, order: Sequence[int], independent: bool) -> Row:
        row = Row(self._judges, order, independent)
        row.number = self._client.number(row)
        source = self._codes[place].encode("utf-8", "surrogatepass")
        if orders.whole(self._tests, "python"):
            limits = self._limits.wire()
            self._client.send(("command", row.number, self._set, source, None, limits, True, list(order)))
            return row
        settings = (self._job.entry_point, self._limits.wire(), True, list(order), independent)
        self._client.send(("run", row.number, self._set, source, *settings))
        return row

    def _keep(self) -> None:
        self._outcomes = [row.outcomes() for row in self._rows]

    def _doubt(self) -> None:
        """Start again what is in doubt."""
        for place, row in enumerate(self._rows):
            order = self._doubtful(place, row)
            if order:
                self._again[place] = self._start(place, order, False)

    def _doubtful(self, place: int, row: Row) -> list[int]:
        if row.load_failed is not None or len(row.cells) < 2:
            return []
        failed = row.failed()
        if self._chance(place).random() < self._job.audit:
            return list(reversed([row.order[at] for at in range(len(row.cells))]))
        loops = [at for at in failed if row.cells[at].verdict is Verdict.timeout and at in row.fresh]
        failed = [at for at in failed if at not in loops]  # its own doing, and dear to see twice
        if failed and row.fresh.issuperset(failed):
            passed = [at for at, cell in enumerate(row.cells) if cell.verdict is Verdict.passed]
            return [row.order[at] for at in passed[-1:]]
        return [row.order[at] for at in reversed(failed)]

    def _compare(self) -> None:
        """Start whole, test by test, what did not give the same outcome twice."""
        again, self._again = self._again, {}
        for place, row in again.items():
            first, second = self._outcomes[place], row.outcomes()
            if any(first[i] != found for i, found in second.items() if i in first):
                self._stateful.add(place)
                self._again[place] = self._start(place, self._rows[place].order, True)

    def _replace(self) -> None:
        for place, row in self._again.items():
            self._outcomes[place] = row.outcomes()
        self._again = {}

    def release(self) -> None:
        """Nothing more is wanted of the engine for this job."""
        for row in [*self._rows, *self._again.values()]:
            self._client.forget(row.number)
            if not row.done and self._client.usable:
                self._client.send(("cancel", row.number))
        if self._client.usable:
            self._client.send(("drop", self._set))

    def result(self) -> PassMatrix:
        """The matrix.

        Raises:
            SandboxError: A row could not be run.
        """
        for rows in (enumerate(self._rows), self._again.items()):
            for place, row in rows:
                row.check(f"{self._job.id} code {place}")
        verdicts = np.full((len(self._codes), len(self._tests)), UNKNOWN, np.uint8)
        for place, outcomes in enumerate(self._outcomes):
            for test, (verdict, _) in outcomes.items():
                verdicts[place, test] = verdict
        code_index = np.asarray(self._code_index, np.int64)
        test_index = np.asarray(self._test_index, np.int64)
        stateful = np.zeros(len(self._codes), np.bool_)
        stateful[sorted(self._stateful)] = True
        return PassMatrix(
            verdicts,
            np.bincount(code_index, minlength=len(self._codes)),
            np.bincount(test_index, minlength=len(self._tests)),
            code_index,
            test_index,
            stateful,
            np.asarray([_forgeable(test) for test in self._tests], np.bool_),
        )


def _outcome(cell: CellResult) -> tuple[int, str]:
    # Which of its clocks ended a program that takes too long depends on the machine.
    cause = "" if cell.verdict is Verdict.timeout else cell.cause
    return VERDICTS.index(cell.verdict), cause


def _forgeable(test: Test) -> bool:
    return getattr(test, "in_process", False)
