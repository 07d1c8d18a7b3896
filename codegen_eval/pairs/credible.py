"""CodeDPO's efficiency pairs: fastest against slowest program on the credible tests (arXiv 2410.05605).

Credible are the tests that the best-ranked programs pass; only programs that pass all of them are timed, and
a call that does not give the test's value has failed. Times are CPU seconds, in turns on one core, each
repeat in a fresh process (so there is no warm-up run to drop). A program's time is the sum over calls of the
median over repeats, its interval twice the standard error of that sum on either side. The pair is dropped
when the intervals overlap or the ratio is below `min_ratio`. The paper's own ratio and repeats are not known
to us.

The tests' own inputs are small: where programs differ in order of growth only, they take equally long and
nothing is left. `efficiency.py` enlarges the inputs instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from codegen_eval.extraction import to_test
from codegen_eval.pairs.correctness import representatives
from codegen_eval.pairs.hygiene import normal_form, sha
from codegen_eval.pairs.options import PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.common import FloatArray
from codegen_eval.ranking.rows import MatrixRow, task_rng
from sandbox import CallTest, Limits, Timing, TimingJob

REPEATS = 5
MAX_PROGRAMS = 8
MAX_CALLS = 20
LIMITS = Limits(cpu_seconds=0.5, wall_seconds=6.0)
# The median scatters by about a quarter more than the mean (normal times).
MEDIAN_FACTOR = math.sqrt(math.pi / 2)
ERRORS = 2.0


class Stopwatch(Protocol):
    """What credible timing needs of a sandbox."""

    def measure(self, jobs: Iterable[TimingJob]) -> Iterator[Timing]:
        """Timings of jobs, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class CredibleRace:
    """Programs of one problem that pass every credible test, and those tests' calls."""

    row: MatrixRow
    programs: tuple[int, ...]
    calls: tuple[tuple[Any, ...], ...]
    expected: tuple[Any, ...]


def credible_race(row: MatrixRow, ranked: RankedRow, funnel: Counter[str]) -> CredibleRace | None:
    """The race of a problem; None, with a reason counted, where there is nothing to time."""
    into, weight = representatives(row)
    groups: dict[bytes, list[int]] = {}
    for i in ranked.best:
        if row.passed[i].any():
            groups.setdefault(row.passed[i].tobytes(), []).append(i)
    if not groups:
        funnel["efficiency_best_passes_nothing"] += 1
        return None
    best = max(groups.values(), key=lambda group: (row.code_counts[group].sum(), -group[0]))[0]
    credible = np.flatnonzero(row.passed[best])
    able = {into[i] for i in np.flatnonzero(row.passed[:, credible].all(axis=1))}
    able &= {i for i, score in enumerate(ranked.scores) if score is not None}
    programs = sorted(able, key=lambda i: (-weight[i], i))[:MAX_PROGRAMS]
    if len(programs) < 2:
        funnel["efficiency_one_program"] += 1
        return None
    tests = [to_test(row.tests[j], row.entry_point) for j in credible]
    chosen = [t for t in tests if isinstance(t, CallTest)][:MAX_CALLS]
    if not chosen:
        funnel["efficiency_no_input"] += 1
        return None
    return CredibleRace(
        row, tuple(programs), tuple(t.args for t in chosen), tuple(t.expected for t in chosen)
    )


def intervals(timing: Timing) -> tuple[FloatArray, FloatArray]:
    """Seconds (programs,) over all calls, and how far the interval reaches on either side; NaN for a program
    that failed or timed out on a call.
    """
    usable = np.isfinite(timing.seconds).all(axis=1)
    spread = np.where(timing.repeats > 1, timing.spread, np.nan)
    error = MEDIAN_FACTOR * spread * timing.median / np.sqrt(np.maximum(timing.repeats, 1))
    total = np.where(usable, timing.median.sum(axis=1), np.nan)
    reach = np.where(usable, ERRORS * np.sqrt((error**2).sum(axis=1)), np.nan)
    return total, reach


def time_credible(
    races: Sequence[CredibleRace], stopwatch: Stopwatch, repeats: int
) -> Iterator[dict[str, Any]]:
    """Times races.

    Args:
        races: The problems to time.
        stopwatch: A sandbox.
        repeats: Runs of each call, at least `REPEATS`.

    Yields:
        Rows of `timings.jsonl`: the programs (index and hash), their seconds and the reach of the interval
        (null = failed or timed out).
    """
    jobs = (
        TimingJob(
            sources=[r.row.codes[i] for i in r.programs],
            entry_point=r.row.entry_point,
            calls=list(r.calls),
            repeats=max(repeats, REPEATS),
            limits=LIMITS,
            expected=list(r.expected),
        )
        for r in races
    )
    for race, timing in zip(races, stopwatch.measure(jobs), strict=True):
        total, reach = intervals(timing)
        yield {
            "task_id": race.row.task_id,
            "programs": list(race.programs),
            "shas": [sha(race.row.codes[i]) for i in race.programs],
            "seconds": [float(t) if np.isfinite(t) else None for t in total],
            "reach": [float(r) if np.isfinite(r) else None for r in reach],
        }


def credible_pairs(
    row: MatrixRow, ranked: RankedRow, timing: Mapping[str, Any], options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """At most one pair: the fastest and the slowest program, if they are surely apart.

    Args:
        row: Programs, tests, results.
        ranked: The ranking of the same row.
        timing: The problem's row of `timings.jsonl`.
        options: `min_ratio` and the seed (of equally fast ones) count.
        funnel: Counts `efficiency_*`.
    """
    timed = [
        (s, r, i)
        for s, r, i in zip(timing["seconds"], timing["reach"], timing["programs"], strict=True)
        if s is not None and r is not None
    ]
    reason = "no_contrast"
    if len(timed) >= 2:
        order = task_rng(options.seed, "credible", row.task_id).permutation(len(timed))
        ranked_by_time = sorted((timed[i] for i in order), key=lambda entry: entry[0])
        (fast, fast_reach, c), (slow, slow_reach, r) = ranked_by_time[0], ranked_by_time[-1]
        if fast + fast_reach >= slow - slow_reach:
            reason = "intervals_overlap"
        elif slow < options.min_ratio * fast:
            reason = "ratio_too_small"
        elif normal_form(row.codes[c]) == normal_form(row.codes[r]):
            reason = "equal_code"
        else:
            funnel["efficiency_with_pairs"] += 1
            return [Pair(c, r, "efficiency", 1.0, 0.0, (ranked.scores[c], ranked.scores[r]))]
    funnel[f"efficiency_{reason}"] += 1
    return []
