"""Uncertainty by the bootstrap over problems (Efron & Tibshirani 1993, chapters 13, 14, 22).

Samples of one problem are not independent, so whole problems are drawn, never samples. Everything is seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

Method = Literal["bca", "percentile"]

# Draws are made in blocks of about this many numbers, which bounds the memory.
_BLOCK = 1 << 22
# Of the standard library: scipy.special would be most of what a second evaluation from the store takes.
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the ends of its confidence interval, in the value's unit."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The three numbers under their names."""
        return {"value": self.value, "low": self.low, "high": self.high}


def bootstrap_mean(
    values: ArrayLike, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0, method: Method = "bca"
) -> Interval:
    """Mean over problems with its bootstrap interval.

    Args:
        values: One number a problem, shape (problems,).
        resamples: Bootstrap samples.
        level: Coverage aimed at, in (0, 1).
        seed: Of the draws.
        method: "bca" (bias-corrected and accelerated) or "percentile".

    Raises:
        CodealignError: For no values, NaN, or a level outside (0, 1).
    """
    array = checked(values)
    return bootstrap_ratio(
        array, np.ones(len(array)), resamples=resamples, level=level, seed=seed, method=method
    )


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    method: Method = "bca",
) -> Interval:
    """Sum of `numerators` over sum of `denominators`, with an interval from drawing whole problems.

    Args:
        numerators: One number a problem, e.g. its slow right samples, shape (problems,).
        denominators: Same shape, not negative, e.g. its right samples; at least one is positive.
        resamples: Bootstrap samples; those whose denominators sum to 0 are left out.
        level: Coverage aimed at, in (0, 1).
        seed: Of the draws.
        method: "bca" or "percentile".

    Raises:
        CodealignError: For no or unequal numbers of values, NaN, denominators that sum to 0, or a bad level.
    """
    top, bottom = checked(numerators), checked(denominators)
    if len(top) != len(bottom) or np.any(bottom < 0) or bottom.sum() == 0:
        raise CodealignError("a ratio needs as many denominators as numerators, none negative and not all 0")
    weights = _draws(len(top), resamples, seed)
    draws = _ratios(weights, top, bottom)
    value = float(top.sum() / bottom.sum())
    kept = bottom.sum() - bottom > 0
    jackknife = (top.sum() - top)[kept] / (bottom.sum() - bottom)[kept]
    return _interval(value, draws, jackknife, level, method)


def paired_difference(
    before: ArrayLike,
    after: ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    method: Method = "bca",
) -> Interval:
    """Mean of `after - before` over the same problems, with its bootstrap interval.

    Args:
        before: One number a problem, shape (problems,).
        after: The same problems in the same order.
        resamples: Bootstrap samples.
        level: Coverage aimed at, in (0, 1).
        seed: Of the draws.
        method: "bca" or "percentile".

    Raises:
        CodealignError: If the two differ in length, and as for `bootstrap_mean`.
    """
    first, second = checked(before), checked(after)
    if len(first) != len(second):
        raise CodealignError(
            f"a paired difference needs the same problems, got {len(first)} and {len(second)}"
        )
    return bootstrap_mean(second - first, resamples=resamples, level=level, seed=seed, method=method)


def paired_ratio_difference(
    before: tuple[ArrayLike, ArrayLike],
    after: tuple[ArrayLike, ArrayLike],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Difference (after - before) of two ratios of sums over the same problems; percentile interval.

    Args:
        before: Numerators and denominators, each of shape (problems,).
        after: The same for the other side, problems in the same order.
        resamples: Bootstrap samples; those in which a side's denominators sum to 0 are left out.
        level: Coverage aimed at, in (0, 1).
        seed: Of the draws, which both sides share: that is what pairs them.

    Raises:
        CodealignError: For unequal lengths, NaN, denominators that sum to 0, or a bad level.
    """
    sides = [(checked(top), checked(bottom)) for top, bottom in (before, after)]
    if len({len(array) for side in sides for array in side}) != 1:
        raise CodealignError("a paired difference needs the same problems on both sides")
    if any(bottom.sum() <= 0 for _, bottom in sides):
        raise CodealignError("a ratio whose denominators sum to 0 has no value")
    weights = _draws(len(sides[0][0]), resamples, seed)
    (low, high) = (_ratios(weights, top, bottom, keep_empty=True) for top, bottom in sides)
    values = [float(top.sum() / bottom.sum()) for top, bottom in sides]
    draws = high - low
    return _interval(values[1] - values[0], draws[np.isfinite(draws)], np.zeros(0), level, "percentile")


def checked(values: ArrayLike) -> NDArray[np.float64]:
    """The values as float64, shape (problems,); refuses no values, NaN, infinities, other shapes."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise CodealignError(f"one number a problem is needed, got an array of shape {array.shape}")
    if not np.all(np.isfinite(array)):
        raise CodealignError(f"problem {int(np.flatnonzero(~np.isfinite(array))[0])} has no finite value")
    return array


@lru_cache(maxsize=1)
def _draws(problems: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """How often each problem occurs in each bootstrap sample, shape (resamples, problems). An evaluation asks
    for the same draws with every k, so the last ones are kept, and are read-only.
    """
    if resamples < 1:
        raise CodealignError(f"at least one bootstrap sample is needed, got {resamples}")
    rng = np.random.default_rng(seed)
    counts = np.zeros((resamples, problems), dtype=np.float32)
    block = max(1, _BLOCK // problems)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(problems, size=(rows, problems))
        flat = (drawn + np.arange(rows)[:, None] * problems).ravel()
        counts[start : start + rows] = np.bincount(flat, minlength=rows * problems).reshape(rows, problems)
    counts.flags.writeable = False
    return counts


def _ratios(
    weights: NDArray[np.float32],
    top: NDArray[np.float64],
    bottom: NDArray[np.float64],
    keep_empty: bool = False,
) -> NDArray[np.float64]:
    """The ratio in every bootstrap sample; where its denominators sum to 0 it is left out, or NaN."""
    sums = weights.astype(np.float64) @ np.stack([top, bottom], axis=1)
    if not keep_empty:
        sums = sums[sums[:, 1] > 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: NDArray[np.float64] = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.nan)
    return ratios


def _interval(
    value: float, draws: NDArray[np.float64], jackknife: NDArray[np.float64], level: float, method: Method
) -> Interval:
    """Ends of the interval from the bootstrap values; without spread it has no width."""
    if not 0 < level < 1:
        raise CodealignError(f"a confidence level lies between 0 and 1, got {level}")
    if np.ptp(draws) == 0:
        return Interval(value, value, value)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca":
        tails = _bca_tails(value, draws, jackknife, tails)
    low, high = np.quantile(draws, tails)
    return Interval(value, float(low), float(high))


def _bca_tails(
    value: float, draws: NDArray[np.float64], jackknife: NDArray[np.float64], tails: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Bias-corrected and accelerated quantile levels (Efron & Tibshirani 1993, eq. 14.10, 14.14, 14.15)."""
    # Ties count half: means of few 0/1 values hit the estimate itself often. The tolerance is for rounding.
    slack = 1e-12 * max(1.0, abs(value))
    below = (np.mean(draws < value - slack) + np.mean(draws <= value + slack)) / 2
    below = np.clip(below, 1 / len(draws), 1 - 1 / len(draws))
    shift = _NORMAL.inv_cdf(float(below))
    spread = jackknife.mean() - jackknife
    scale = 6 * (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / scale if scale > 0 else 0.0
    reach = [shift + _NORMAL.inv_cdf(tail) for tail in tails.tolist()]
    return np.array([_NORMAL.cdf(shift + z / (1 - acceleration * z)) for z in reach])
