"""Two small problems for tests of rewards, and a sandbox that is not there."""

from __future__ import annotations

import numpy as np

from alignment.rewards.pool import Pool
from codegen_eval.records import Problem
from sandbox import CallTest, Program, Result, Timing, TimingJob

DOUBLE = Problem(
    task_id="t/double",
    prompt='def double(x):\n    """Twice x.\n\n    >>> double(2)\n    4\n    """\n',
    entry_point="double",
    tests=(CallTest((3,), 6), CallTest((0,), 0), CallTest((-1,), -2), CallTest((10,), 20)),
    canonical_solution="    return 2 * x\n",
    sizes=(((5,),), ((1000,), (2000,))),
    meta={"groups": {"base": (0, 2), "plus": (2, 4)}},
)
LAST = Problem(
    task_id="t/last",
    prompt='def last(xs):\n    """The last item.\n\n    >>> last([1, 2])\n    2\n    """\n',
    entry_point="last",
    tests=(CallTest(([1, 2],), 2), CallTest(([7],), 7)),
    canonical_solution="    return xs[-1]\n",
)


class FakePool(Pool):
    """Answers without running anything: what the test says, None for a broken sandbox."""

    def __init__(self, results: dict[str, Result | None], timing: Timing | None = None) -> None:
        super().__init__()
        self.results = results
        self.timing = timing
        self.ran: list[str] = []
        self.jobs: list[TimingJob] = []

    async def run(self, program: Program, *, all_tests: bool) -> Result | None:
        self.ran.append(program.source)
        return next(found for text, found in self.results.items() if text in program.source)

    async def time(self, job: TimingJob) -> Timing | None:
        self.jobs.append(job)
        return self.timing


def timing(rounds: list[list[list[float]]], failed: dict[tuple[int, int], float] | None = None) -> Timing:
    """A measurement: rounds[source][call][round], and what failed, NaN or inf, by source and call."""
    array = np.asarray(rounds, dtype=np.float64)
    seconds = array.min(axis=2)
    for place, value in (failed or {}).items():
        seconds[place] = value
    none = np.zeros(seconds.shape)
    return Timing(
        seconds, np.median(array, axis=2), none, array, none, none.astype(np.int64), None, (1.0,), 0
    )
