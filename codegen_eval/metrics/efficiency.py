"""Figures of efficiency benchmarks: PIE, Mercury's Beyond, EvalPerf's DPS, EffiBench's time and memory.

Names say which of several definitions in use a figure has. All take measured costs as arrays; a run that
failed or timed out is inf or NaN. Nothing here measures: compare costs from one machine and one run only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PieScores:
    """Scores over pairs, best of k samples.

    Attributes:
        percent_correct: Pairs with a right sample, of 100.
        percent_optimised: Pairs whose speed-up is at least the threshold, of 100 (%Opt).
        speedup_floor_1: Mean speed-up, where less than 1 and no right sample count as 1 (second release).
        speedup_improved: Mean speed-up of those pairs that got faster (SP of the first release); None if
            none.
        runtime_reduction: Mean of (old - new) / old over those pairs (RTR of the first release); None if
            none.
    """

    percent_correct: float
    percent_optimised: float
    speedup_floor_1: float
    speedup_improved: float | None
    runtime_reduction: float | None


def best_speedups(source: ArrayLike, samples: ArrayLike, correct: ArrayLike, k: int) -> Floats:
    """Cost of each slow program over that of the fastest right one of its first k samples; 0 where none is
    right.

    Args:
        source: (pairs,) costs of the given programs, positive.
        samples: (pairs, samples) costs, in the same unit; only those of right samples are read. Missing
            samples are not right.
        correct: (pairs, samples) whether a sample passes all tests.
        k: Samples that count, 1 to as many as there are.

    Raises:
        CodealignError: For shapes that do not fit, costs of 0 or less, or a k out of range.
    """
    old = np.asarray(source, dtype=np.float64)
    new, right = np.asarray(samples, dtype=np.float64), np.asarray(correct, dtype=bool)
    if old.ndim != 1 or old.size == 0 or new.shape != right.shape or new.ndim != 2 or len(new) != len(old):
        raise CodealignError(
            "speed-ups need source (pairs,), samples and correct (pairs, samples); "
            f"got {old.shape}, {new.shape}, {right.shape}"
        )
    if isinstance(k, bool) or not 1 <= k <= new.shape[1]:
        raise CodealignError(f"k={k!r} must be from 1 to the {new.shape[1]} samples of each pair")
    for index in np.flatnonzero(~(np.isfinite(old) & (old > 0)))[:1]:
        raise CodealignError(f"pair {index}: the given program's cost {old[index]} is no positive number")
    if np.any(right & ~(np.isnan(new) | (new > 0))):
        raise CodealignError("a right sample's cost is 0 or less")
    best = np.where(right & ~np.isnan(new), new, np.inf)[:, :k].min(axis=1)
    return np.asarray(old / best)


def pie_scores(
    source: ArrayLike, samples: ArrayLike, correct: ArrayLike, k: int = 1, *, threshold: float = 1.1
) -> PieScores:
    """PIE's scores, best of the first k samples (gem5/gem5_eval.py of the second release).

    Args:
        source: See `best_speedups`.
        samples: See `best_speedups`.
        correct: See `best_speedups`.
        k: See `best_speedups`.
        threshold: Speed-up that counts as optimised. The second release takes 1.1; the first one's "10 % less
            time" is 1 / 0.9.

    Raises:
        CodealignError: As `best_speedups`, or a threshold that is not above 1.
    """
    if not 1 < threshold < np.inf:
        raise CodealignError(f"threshold {threshold!r} must be a speed-up above 1")
    speedups = best_speedups(source, samples, correct, k)
    faster = speedups[speedups > 1]
    return PieScores(
        percent_correct=100.0 * float(np.asarray(correct, dtype=bool)[:, :k].any(axis=1).mean()),
        percent_optimised=100.0 * float((speedups >= threshold).mean()),
        speedup_floor_1=float(np.maximum(speedups, 1.0).mean()),
        speedup_improved=float(faster.mean()) if faster.size else None,
        runtime_reduction=float((1 - 1 / faster).mean()) if faster.size else None,
    )


def beyond(
    seconds: ArrayLike, correct: ArrayLike, references: ArrayLike, *, released: bool = False
) -> Floats | None:
    """Beyond of each sample of one task (Mercury, arXiv 2402.07844): (hi - clip(t, lo, hi)) / (hi - lo), 0 if
    wrong.

    Args:
        seconds: (samples,) times.
        correct: (samples,) whether each passes.
        references: Times of the reference solutions, measured in the same way; those that failed are inf or
            NaN and are dropped. lo and hi are the least and the largest of the others.
        released: As Mercury's own evaluator has it: clip(hi - t, 0, 1 s) / (hi - lo), which can leave [0, 1].

    Returns:
        (samples,); None where references do not differ, as 0 / 0 says nothing.

    Raises:
        CodealignError: For shapes that do not fit or times of 0 or less.
    """
    times, right = np.asarray(seconds, dtype=np.float64), np.asarray(correct, dtype=bool)
    known = np.asarray(references, dtype=np.float64)
    if times.ndim != 1 or times.shape != right.shape or known.ndim != 1:
        raise CodealignError(f"Beyond needs one time and one mark a sample; got {times.shape}, {right.shape}")
    known = known[np.isfinite(known)]
    if np.any(known <= 0) or np.any(times[right] <= 0):
        raise CodealignError("Beyond: a time is 0 s or less")
    if known.size == 0 or known.max() == known.min():
        return None
    low, high = known.min(), known.max()
    used = np.where(right & ~np.isnan(times), times, np.inf)
    gain = np.clip(high - used, 0.0, 1.0) if released else high - np.clip(used, low, high)
    return np.asarray(np.where(right, gain / (high - low), 0.0))


@dataclass(frozen=True, slots=True)
class TaskMean:
    """A mean over tasks, how many it is over, and how many had no value and were left out."""

    value: float
    tasks: int
    left_out: int


def beyond_at_k(tasks: Sequence[ArrayLike | None], k: int) -> TaskMean:
    """Mean over tasks of the mean over their first k samples' Beyond; tasks of None are counted and left out.

    Raises:
        CodealignError: A task has fewer than k samples, or no task has a value.
    """
    arrays = [None if task is None else np.asarray(task, dtype=np.float64) for task in tasks]
    for index, values in enumerate(arrays):
        if values is not None and (values.ndim != 1 or not 1 <= k <= values.size):
            raise CodealignError(
                f"Beyond@{k} needs at least {max(k, 1)} samples, task {index} has {values.size}"
            )
    return _task_mean([None if values is None else float(values[:k].mean()) for values in arrays], "Beyond")


def dps(costs: ArrayLike, references: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """EvalPerf's differential performance scores of the right samples of one task (arXiv 2408.06450).

    A sample is matched with the fastest reference that it is at least as fast as, by cost <= the reference's.

    Args:
        costs: (samples,) e.g. numbers of instructions; inf or NaN for runs that failed.
        references: (clusters,) costs of the reference solutions, in the data's order: from slow to fast.
        scores: (clusters,) DPS of each, in percent: rising.

    Returns:
        DPS, and DPS_norm = 100 (j + 1) / clusters with j the match's place from 0; both (samples,), both 0
        for a sample that is slower than all references or failed.

    Raises:
        CodealignError: For shapes that do not fit, or references whose costs are no positive numbers.
    """
    own, known = np.asarray(costs, dtype=np.float64), np.asarray(references, dtype=np.float64)
    given = np.asarray(scores, dtype=np.float64)
    if own.ndim != 1 or known.ndim != 1 or known.size == 0 or known.shape != given.shape:
        raise CodealignError(
            f"DPS needs as many scores as references, at least one; got {given.shape} and {known.shape}"
        )
    if not np.all(np.isfinite(known) & (known > 0)) or not np.all(np.isfinite(given)):
        raise CodealignError("DPS: a reference has no positive cost or no score; leave the task out")
    with np.errstate(invalid="ignore"):
        as_fast = own[:, None] <= known[None, :]
    matched = np.where(as_fast.any(axis=1), known.size - 1 - as_fast[:, ::-1].argmax(axis=1), -1)
    return np.where(matched >= 0, given[matched], 0.0), 100.0 * (matched + 1) / known.size


def evalperf_mean(tasks: Sequence[ArrayLike], min_correct: int = 10) -> TaskMean:
    """Mean over tasks of the mean DPS (or DPS_norm) of their right samples.

    Args:
        tasks: For each task the values of its right samples.
        min_correct: Tasks with fewer right samples are counted and left out.

    Raises:
        CodealignError: No task has enough right samples, or min_correct is less than 1.
    """
    if min_correct < 1:
        raise CodealignError(f"min_correct is {min_correct!r}; give a number of at least 1")
    arrays = [np.asarray(task, dtype=np.float64) for task in tasks]
    return _task_mean([float(x.mean()) if x.size >= min_correct else None for x in arrays], "DPS")


@dataclass(frozen=True, slots=True)
class Overhead:
    """What one run took: seconds (ET), peak memory in MB (MU), memory-time integral in MB s (TMU)."""

    seconds: float
    peak_mb: float
    mb_seconds: float


def overhead(stamps: ArrayLike, megabytes: ArrayLike) -> Overhead:
    """EffiBench's figures of a memory trace (report_overhead.py): last minus first stamp, peak, trapezoids.

    Args:
        stamps: (readings,) seconds, not falling.
        megabytes: (readings,) memory in use.

    Raises:
        CodealignError: For no readings, unequal numbers of them, stamps that fall, or memory below 0.
    """
    times, memory = np.asarray(stamps, dtype=np.float64), np.asarray(megabytes, dtype=np.float64)
    if times.ndim != 1 or times.size == 0 or times.shape != memory.shape:
        raise CodealignError(f"a trace needs a stamp for each reading; got {times.shape} and {memory.shape}")
    if (
        not np.all(np.isfinite(times) & np.isfinite(memory))
        or np.any(np.diff(times) < 0)
        or np.any(memory < 0)
    ):
        raise CodealignError("a trace needs finite stamps that do not fall, and memory of at least 0")
    area = ((memory[1:] + memory[:-1]) / 2 * np.diff(times)).sum()
    return Overhead(float(times[-1] - times[0]), float(memory.max()), float(area))


@dataclass(frozen=True, slots=True)
class Normalised:
    """One quantity of programs against the canonical ones.

    Attributes:
        mean: Of the programs (ET, MU, TMU).
        ratio_of_totals: Sum over tasks over the canonical sum: what the released script prints as N....
        mean_of_ratios: Mean over tasks of program over canonical: how the paper describes N....
    """

    mean: float
    ratio_of_totals: float
    mean_of_ratios: float


@dataclass(frozen=True, slots=True)
class EffiBenchScores:
    """Time, peak memory and memory-time integral over those tasks where both programs ran."""

    time: Normalised
    peak: Normalised
    integral: Normalised
    tasks: int
    left_out: int


def effibench_scores(
    programs: Sequence[Overhead | None], canonical: Sequence[Overhead | None]
) -> EffiBenchScores:
    """ET, NET, MU, NMU, TMU, NTMU over the tasks where both are known; the others are counted.

    Models that solve different tasks are compared on different tasks: give both the same set to compare them.

    Raises:
        CodealignError: For unequal numbers of tasks, no task where both ran, or a canonical figure of 0.
    """
    if len(programs) != len(canonical):
        raise CodealignError(
            f"{len(programs)} programs but {len(canonical)} canonical ones: give one each a task"
        )
    both = [
        (own, base)
        for own, base in zip(programs, canonical, strict=True)
        if own is not None and base is not None
    ]
    if not both:
        raise CodealignError("there is no task where both the program and the canonical one ran")
    return EffiBenchScores(
        time=_normalised(both, lambda run: run.seconds, "time"),
        peak=_normalised(both, lambda run: run.peak_mb, "peak memory"),
        integral=_normalised(both, lambda run: run.mb_seconds, "memory-time integral"),
        tasks=len(both),
        left_out=len(programs) - len(both),
    )


def _normalised(
    both: Sequence[tuple[Overhead, Overhead]], part: Callable[[Overhead], float], name: str
) -> Normalised:
    own, base = (np.array([part(pair[side]) for pair in both]) for side in (0, 1))
    for index in np.flatnonzero(~(base > 0))[:1]:
        raise CodealignError(f"the {name} of canonical program {index} is {base[index]}: no ratio can be had")
    return Normalised(float(own.mean()), float(own.sum() / base.sum()), float((own / base).mean()))


def _task_mean(values: Sequence[float | None], what: str) -> TaskMean:
    known = [value for value in values if value is not None]
    if not known:
        raise CodealignError(f"{what}: none of the {len(values)} tasks has a value")
    return TaskMean(float(np.mean(known)), len(known), len(values) - len(known))
