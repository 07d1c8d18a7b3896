"""Efficiency pairs: inside the best consensus set, a fast program chosen and a slow one rejected.

The inputs are those of the problem's tests, enlarged; the times are CPU seconds, measured by the sandbox with
the programs taking turns. Fast is within six times the best time (linear ways of doing a thing differ by up
to four), slow is over twelve times it, and what lies between is not used: few programs are near either
bound, so that noise of timing does not change the pairs. Raw times stay out of the pairs.

Departs from CodeDPO (arXiv 2410.05605) in the inputs (enlarged instead of the tests' own, which are too small
to time) and in the wide dead zone in place of "fastest against slowest".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codegen_eval.extraction import to_test
from codegen_eval.pairs.correctness import representatives
from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.enlarge import enlarged_calls
from codegen_eval.pairs.hygiene import normal_form, sha
from codegen_eval.pairs.options import PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.rows import MatrixRow, task_rng
from sandbox import CallTest, CodeTest, Limits, MatrixJob, PassMatrix, Timing, TimingJob

# Model-written inputs have two or three elements; the square of a few thousand stands out clearly.
FACTOR = 4000
FAST_RATIO = 6.0
SLOW_RATIO = 12.0
# Times of short calls scatter by about this much: a best time under it, for each call, counts as it.
NOISE_SECONDS = 6e-5
MAX_CALLS = 2
MAX_PROGRAMS = 8
TIMING_LIMITS = Limits(cpu_seconds=0.5, wall_seconds=6.0)


class Timer(Protocol):
    """What efficiency pairs need of a sandbox."""

    def time_many(self, jobs: Iterable[TimingJob]) -> Iterator[NDArray[np.float64]]:
        """CPU seconds (sources, calls) of jobs, in their order: NaN where a call failed, inf where it timed
        out.
        """
        ...

    def measure(self, jobs: Iterable[TimingJob]) -> Iterator[Timing]:
        """Timings of jobs with medians and spreads, in their order."""
        ...

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Matrices of jobs, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Race:
    """Programs of one problem that are timed against each other.

    Attributes:
        row: The problem.
        programs: Indices of distinct programs of the best consensus set, most frequent first.
        weights: Their multiplicities.
        calls: Enlarged argument tuples.
    """

    row: MatrixRow
    programs: tuple[int, ...]
    weights: tuple[float, ...]
    calls: tuple[tuple[Any, ...], ...]


def race(row: MatrixRow, ranked: RankedRow, funnel: Counter[str]) -> Race | None:
    """The race of a problem; None, with a reason counted, where there is nothing to time."""
    into, weight = representatives(row)
    groups: dict[bytes, set[int]] = {}
    for i in ranked.best:
        if row.passed[i].any():
            groups.setdefault(row.passed[i].tobytes(), set()).add(into[i])
    if not groups:
        funnel["efficiency_best_passes_nothing"] += 1
        return None
    members = max(groups.values(), key=lambda group: (sum(weight[i] for i in group), -min(group)))
    programs = sorted(members, key=lambda i: (-weight[i], i))[:MAX_PROGRAMS]
    if len(programs) < 2:
        funnel["efficiency_one_program"] += 1
        return None
    # Inputs of tests that the best programs pass come first: on those they are known to work.
    order = sorted(range(len(row.tests)), key=lambda j: (not row.passed[programs[0], j], j))
    tests = [to_test(row.tests[j], row.entry_point) for j in order]
    calls = enlarged_calls([t.args for t in tests if isinstance(t, CallTest)], FACTOR, MAX_CALLS)
    if not calls:
        funnel["efficiency_no_input"] += 1
        return None
    return Race(row, tuple(programs), tuple(float(weight[i]) for i in programs), tuple(calls))


def total_seconds(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
    """Total time of each program over the calls that count.

    A call on which more than half of the programs fail is no valid input and does not count; a program that
    fails on one that counts has no time.

    Args:
        times: (programs, calls) CPU seconds, NaN = failed, inf = timed out.

    Returns:
        (programs,) seconds, NaN for programs out of the race; and the calls that count.
    """
    failed = np.isnan(times)
    calls = np.flatnonzero(failed.sum(axis=0) * 2 <= times.shape[0])
    if len(calls) == 0:
        return np.full(times.shape[0], np.nan), []
    return times[:, calls].sum(axis=1), [int(c) for c in calls]


def fast_and_slow(seconds: NDArray[np.float64], calls: int) -> tuple[list[int], list[int]]:
    """Indices of fast and of slow programs by their totals over `calls` calls; both empty where no program
    has a finite time.
    """
    finite = seconds[np.isfinite(seconds)]
    if not len(finite):
        return [], []
    base = max(float(finite.min()), NOISE_SECONDS * calls)
    fast = [i for i, s in enumerate(seconds) if s <= FAST_RATIO * base]
    slow = [i for i, s in enumerate(seconds) if s > SLOW_RATIO * base]
    return fast, slow


def _agreement_job(contest: Race, times: NDArray[np.float64], runners: Sequence[int]) -> MatrixJob | None:
    """Runs programs against the first of them on the enlarged inputs that all finish; None where there is no
    such input.

    The first program is put into the source of the test, which runs in the test's own process of the sandbox.
    """
    if len(runners) < 2:
        return None
    done = [call for j, call in enumerate(contest.calls) if np.isfinite(times[list(runners), j]).all()]
    if not done:
        return None
    codes = [contest.row.codes[contest.programs[i]] for i in runners]
    name = contest.row.entry_point
    check = (
        f"\n\ndef check(candidate):\n    for args in {done!r}:\n"
        f"        assert candidate(*args) == {name}(*args)\n"
    )
    return MatrixJob(
        codes=codes[1:],
        tests=[CodeTest(codes[0] + check)],
        entry_point=name,
        limits=None,
        id=contest.row.task_id,
    )


def time_races(races: Sequence[Race], timer: Timer, repeats: int) -> Iterator[dict[str, Any]]:
    """Times races and checks that fast and slow programs of each give equal answers.

    Args:
        races: The problems to time.
        timer: A sandbox.
        repeats: Runs of each call, of which the fastest counts.

    Yields:
        Rows of `timings.jsonl`: the programs (index and hash), their seconds (null = failed, "inf" =
        timed out), which are fast, which slow, and which were left out because they disagree with a fast one.
    """
    jobs = (
        TimingJob(
            sources=[r.row.codes[i] for i in r.programs],
            entry_point=r.row.entry_point,
            calls=list(r.calls),
            repeats=repeats,
            limits=TIMING_LIMITS,
            every_core=True,  # factors of 6 and 12 show beside other timing
        )
        for r in races
    )
    timed = [(r, *_classified(times), times) for r, times in zip(races, timer.time_many(jobs), strict=True)]
    # A slow program that never ends cannot be checked; its pairs rest on the problem's own tests.
    ending = [
        [*fast, *(i for i in slow if np.isfinite(s[i]))] if slow else [] for _, s, fast, slow, _ in timed
    ]
    checks = [_agreement_job(r, t, runners) for (r, *_, t), runners in zip(timed, ending, strict=True)]
    matrices = timer.pass_matrices(job for job in checks if job is not None)
    for (contest, seconds, fast, slow, _), runners, job in zip(timed, ending, checks, strict=True):
        disagreeing: set[int] = set()
        if job is not None:
            matrix = next(matrices)
            agrees = np.asarray(matrix.passed)[list(matrix.code_index), 0]
            disagreeing = {i for i, ok in zip(runners[1:], agrees, strict=True) if not ok}
        yield {
            "task_id": contest.row.task_id,
            "programs": list(contest.programs),
            "shas": [sha(contest.row.codes[i]) for i in contest.programs],
            "seconds": [_json_seconds(s) for s in seconds],
            "fast": [i for i in fast if i not in disagreeing],
            "slow": [i for i in slow if i not in disagreeing],
            "disagreeing": sorted(disagreeing),
        }


def _classified(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int], list[int]]:
    seconds, calls = total_seconds(np.asarray(times, dtype=np.float64))
    return seconds, *fast_and_slow(seconds, len(calls))


def _json_seconds(seconds: float) -> float | str | None:
    if np.isnan(seconds):
        return None
    return "inf" if np.isinf(seconds) else float(seconds)


def efficiency_pairs(
    row: MatrixRow, ranked: RankedRow, timing: Mapping[str, Any], options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """Up to `pairs_per_problem` pairs of a fast and a slow program of one problem, drawn by multiplicity.

    Confidence is 1: the dead zone between fast and slow makes their order sure, and measured times must not
    reach the pairs. The margin in tests is 0, since both pass the same ones.

    Args:
        row: Programs, tests, results.
        ranked: The ranking of the same row.
        timing: The problem's row of `timings.jsonl`.
        options: `pairs_per_problem` and the seed count.
        funnel: Counts `efficiency_*`.
    """
    _, weight = representatives(row)
    programs = timing["programs"]
    found = [
        (programs[f], programs[s])
        for f in timing["fast"]
        for s in timing["slow"]
        if normal_form(row.codes[programs[f]]) != normal_form(row.codes[programs[s]])
    ]
    funnel["efficiency_disagreeing_programs"] += len(timing["disagreeing"])
    funnel["efficiency_with_pairs" if found else "efficiency_no_contrast"] += 1
    rng = task_rng(options.seed, "efficiency", row.task_id)
    picked = draw([float(weight[c] * weight[r]) for c, r in found], options.pairs_per_problem, rng)
    return [
        Pair(c, r, "efficiency", 1.0, 0.0, (ranked.scores[c], ranked.scores[r]))
        for c, r in (found[i] for i in picked)
    ]
