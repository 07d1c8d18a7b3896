"""Is B better than A, on the same problems? A permutation test, counts of changed problems, and power.

Under the null hypothesis the two results of a problem may change places. All ways in which they could are
enumerated, or drawn where there are too many (Good 2005, Permutation, Parametric and Bootstrap Tests of
Hypotheses, chapter 3; the "+1" of drawn ones: Phipson & Smyth 2010, arXiv 1603.05766). Whole problems change
places, never samples: those of one problem are not independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.statistics import checked

# Up to this many problems that differ, all 2^m ways to swap are enumerated (65,536).
EXACT_PROBLEMS = 16
# Swaps are worked on in blocks of about this many numbers, which bounds the memory.
_BLOCK = 1 << 20

Ratio = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True, slots=True)
class Changes:
    """How many problems have a higher, a lower, the same value on the second side."""

    higher: int
    lower: int
    same: int


@dataclass(frozen=True, slots=True)
class Power:
    """What a comparison of this size can find.

    Attributes:
        detectable: The smallest true difference that is found with the power asked for.
        needed: How many problems would find the observed difference with it; None where that is 0.
    """

    detectable: float
    needed: int | None


def permutation_test(before: ArrayLike, after: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p value of the mean of `after - before` over the same problems.

    Args:
        before: One number a problem, shape (problems,).
        after: The same problems in the same order.
        resamples: Random swaps, where more than `EXACT_PROBLEMS` problems differ.
        seed: Of the swaps.

    Returns:
        The share of swaps whose difference is at least as far from 0 as the observed one: exact where all
        are enumerated, else (found + 1) / (resamples + 1).

    Raises:
        CodealignError: If the two differ in length, hold no values, or NaN.
    """
    first, second = _same_length(before, after)
    ones = np.ones(len(first))
    return ratio_permutation_test((first, ones), (second, ones), resamples=resamples, seed=seed)


def ratio_permutation_test(before: Ratio, after: Ratio, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The same for the difference of two ratios of sums, such as the share of slow programs among right ones.

    Args:
        before: Numerators and denominators, each of shape (problems,), none negative.
        after: The same for the other side, problems in the same order.
        resamples: Random swaps, where more than `EXACT_PROBLEMS` problems differ.
        seed: Of the swaps.

    Returns:
        As `permutation_test`; swaps that leave a side with denominators that sum to 0 count as far from 0.

    Raises:
        CodealignError: For unequal lengths, no values, NaN, or denominators that sum to 0.
    """
    (top_a, bottom_a), (top_b, bottom_b) = (_same_length(*side) for side in (before, after))
    _same_length(top_a, top_b)
    if bottom_a.sum() <= 0 or bottom_b.sum() <= 0:
        raise CodealignError("a ratio whose denominators sum to 0 has no value")
    moved = np.stack([top_b - top_a, bottom_b - bottom_a], axis=1)
    # A problem without a difference changes nothing when it is swapped: it need not be enumerated.
    moved = moved[np.any(moved != 0, axis=1)]
    sums = [np.array([side[0].sum(), side[1].sum()]) for side in ((top_a, bottom_a), (top_b, bottom_b))]
    observed = abs(sums[1][0] / sums[1][1] - sums[0][0] / sums[0][1])
    # Equal differences must count as equal although they are summed in another order.
    scale = (np.abs(top_a).sum() + np.abs(top_b).sum()) / min(bottom_a.sum(), bottom_b.sum())
    limit = observed - 1e-12 * scale
    exact = len(moved) <= EXACT_PROBLEMS
    total = 1 << len(moved) if exact else resamples
    if total < 1:
        raise CodealignError(f"at least one resample is needed, got {resamples}")
    rng = np.random.default_rng(seed)
    found = 0
    rows = max(1, _BLOCK // max(1, len(moved)))
    for start in range(0, total, rows):
        count = min(rows, total - start)
        swaps = _all(start, count, len(moved)) if exact else rng.integers(0, 2, (count, len(moved)))
        found += _as_far(swaps.astype(np.float64) @ moved, sums, limit)
    return found / total if exact else (found + 1) / (total + 1)


def changes(before: ArrayLike, after: ArrayLike) -> Changes:
    """Counts the problems whose value rose, fell or stayed (within 1e-12).

    Raises:
        CodealignError: As for `permutation_test`.
    """
    first, second = _same_length(before, after)
    moved = second - first
    higher, lower = int((moved > 1e-12).sum()), int((moved < -1e-12).sum())
    return Changes(higher, lower, len(moved) - higher - lower)


def power(differences: ArrayLike, *, level: float = 0.95, wanted: float = 0.8) -> Power | None:
    """What a paired comparison with these differences can find, by the normal approximation.

    The smallest difference found is (z_{(1+level)/2} + z_wanted) s / sqrt(problems), with s the standard
    deviation of the differences; the number of problems follows from the same equation (Miller 2024,
    "Adding Error Bars to Evals", arXiv 2411.00640, the section on power).

    Args:
        differences: One number a problem, shape (problems,).
        level: Of the test, 0.95 for p < 0.05.
        wanted: The chance to find it, in (0, 1).

    Returns:
        None where fewer than two problems or differences without any spread tell nothing.

    Raises:
        CodealignError: For no values, NaN, or shares outside (0, 1).
    """
    array = checked(differences)
    if not (0 < level < 1 and 0 < wanted < 1):
        raise CodealignError(f"level and power lie between 0 and 1, got {level} and {wanted}")
    if len(array) < 2 or np.ptp(array) == 0:
        return None
    reach = float(ndtri((1 + level) / 2) + ndtri(wanted)) * float(array.std(ddof=1))
    mean = abs(float(array.mean()))
    # A mean of 1e-17 is 0 with rounding, and its square would ask for more problems than there are atoms.
    needed = math.ceil((reach / mean) ** 2) if mean > 1e-9 else None
    return Power(reach / math.sqrt(len(array)), needed)


def _same_length(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = checked(before), checked(after)
    if len(first) != len(second):
        raise CodealignError(
            f"a paired comparison needs the same problems, got {len(first)} and {len(second)}"
        )
    return first, second


def _all(start: int, count: int, problems: int) -> NDArray[np.int64]:
    """The swaps number `start` and following, as the binary digits of their number."""
    numbers = np.arange(start, start + count, dtype=np.int64)
    bits: NDArray[np.int64] = (numbers[:, None] >> np.arange(problems, dtype=np.int64)) & 1
    return bits


def _as_far(shift: NDArray[np.float64], sums: list[NDArray[np.float64]], limit: float) -> int:
    """How many swaps give a difference of ratios at least `limit` from 0; `shift` is what moves to side A."""
    first, second = sums[0] + shift, sums[1] - shift
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(second[:, 0] / second[:, 1] - first[:, 0] / first[:, 1])
    return int((~(difference < limit)).sum())
