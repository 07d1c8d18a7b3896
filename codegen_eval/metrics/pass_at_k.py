"""pass@k: the chance that at least one of k samples is right (Chen et al. 2021, arXiv 2107.03374, eq. 1).

Unbiased for each problem; the value of a set of problems is the plain mean. Departs in one point: where the
paper's code returns 1 for k > n, this is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

# Up to this many factors the product is multiplied out; beyond it log-gamma is exact enough.
_PRODUCT_LIMIT = 1 << 22


def pass_at_k(
    n: ArrayLike, c: ArrayLike, k: int, *, task_ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """1 - C(n-c, k) / C(n, k) for every problem.

    Args:
        n: Samples of each problem, shape (problems,) or a scalar for all.
        c: Right samples of each problem, same shape.
        k: Number of draws.
        task_ids: Names of the problems, for error messages.

    Returns:
        Shape (problems,), float64 in [0, 1].

    Raises:
        CodealignError: If k < 1, n < k, c is not in 0..n, or a count is not a whole number (NaN included).
    """
    samples, right = np.broadcast_arrays(_counts(n, "n"), _counts(c, "c"))
    samples, right = np.atleast_1d(samples), np.atleast_1d(right)
    _check(samples, right, k, task_ids)
    wrong = samples - right
    out = np.ones(len(samples))
    open_ = wrong >= k
    out[right == 0] = 0.0
    open_ &= right > 0
    pairs, back = np.unique(np.stack([samples[open_], right[open_]], axis=1), axis=0, return_inverse=True)
    values = np.array([_one(int(pair[0]), int(pair[1]), k) for pair in pairs])
    if len(pairs):
        out[open_] = values[back.reshape(-1)]
    return out


def _one(n: int, c: int, k: int) -> float:
    """One problem with 0 < c and n - c >= k: the shorter of the two equal products, as a sum of logarithms.

    prod_{x<k} (n-c-x)/(n-x) = prod_{x<c} (n-k-x)/(n-x); `-expm1` keeps small values exact.
    """
    factors, other = (k, c) if k <= c else (c, k)
    if factors > _PRODUCT_LIMIT:
        log_miss = lgamma(n - c + 1) + lgamma(n - k + 1) - lgamma(n - c - k + 1) - lgamma(n + 1)
        return float(-np.expm1(min(log_miss, 0.0)))
    return float(-np.expm1(np.log1p(-other / (n - np.arange(factors, dtype=np.float64))).sum()))


def _counts(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(array)) or np.any(array != np.floor(array)):
        raise CodealignError(f"{name} must be whole numbers of samples, got {_show(array)}")
    return array.astype(np.int64)


def _check(n: NDArray[np.int64], c: NDArray[np.int64], k: int, task_ids: Sequence[str] | None) -> None:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise CodealignError(f"k must be a whole number of at least 1, got {k!r}")
    if n.size == 0:
        raise CodealignError("pass@k needs at least one problem, got none")

    def name(index: int) -> str:
        return f"task {task_ids[index]!r}" if task_ids is not None else f"problem {index}"

    for index in np.flatnonzero(n < k)[:1]:
        raise CodealignError(
            f"k={k} needs at least {k} samples, {name(index)} has {n[index]}; lower k or draw more"
        )
    for index in np.flatnonzero((c < 0) | (c > n))[:1]:
        raise CodealignError(f"c={c[index]} right samples out of n={n[index]} is impossible ({name(index)})")


def _show(array: NDArray[np.float64]) -> str:
    return np.array2string(array, threshold=6, edgeitems=2)
