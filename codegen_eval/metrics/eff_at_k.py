"""eff@k: the expected best efficiency score among k samples (Qiu et al. 2024, arXiv 2406.06647, eq. 7 and 8).

With scores 0 and 1 it is pass@k. The estimator is the mean of the maximum over all subsets of size k (a
U-statistic: unbiased, and of at most k/n times the variance of one random subset's maximum), written without
binomial coefficients, which overflow a float beyond n = 1029. Departs in one point: where the authors' code
returns 0 for k > n, this is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError


def eff_at_k(scores: ArrayLike, k: int, *, name: str = "the problem") -> float:
    """Mean over all k-subsets of their greatest score, for one problem.

    With scores in descending order, the r-th of n is the greatest of a share w_r of the subsets: w_1 = k/n,
    w_{r+1} = w_r (1 - (k-1)/(n-r)). All weights lie in [0, 1] and sum to 1.

    Args:
        scores: Efficiency score of each sample (0 for a wrong one), shape (n,), any order.
        k: Number of draws.
        name: Of the problem, for error messages.

    Raises:
        CodealignError: For no scores, scores that are not finite, k < 1 or k > n.
    """
    array = np.asarray(scores, dtype=np.float64)
    n = _check(array, k, name)
    largest = -np.sort(-array)[: n - k + 1]
    rest = np.arange(n - 1, k - 1, -1, dtype=np.float64)
    weights = (k / n) * np.cumprod(np.concatenate([[1.0], 1 - (k - 1) / rest]))
    return float(weights @ largest)


def eff_values(
    scores: Sequence[ArrayLike], k: int, *, task_ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """eff@k of every problem, shape (problems,); problems may have different numbers of samples.

    Raises:
        CodealignError: As for `eff_at_k`, naming the problem, and for no problems.
    """
    if len(scores) == 0:
        raise CodealignError("eff@k needs at least one problem, got none")
    names = [f"task {task!r}" for task in task_ids] if task_ids is not None else None
    return np.array(
        [eff_at_k(row, k, name=names[i] if names else f"problem {i}") for i, row in enumerate(scores)]
    )


def _check(scores: NDArray[np.float64], k: int, name: str) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise CodealignError(f"k must be a whole number of at least 1, got {k!r}")
    if scores.ndim != 1 or scores.size == 0:
        raise CodealignError(f"eff@k needs one score a sample, {name} has an array of shape {scores.shape}")
    if not np.all(np.isfinite(scores)):
        place = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise CodealignError(f"score {place} of {name} is {scores[place]}; give finite numbers")
    if k > scores.size:
        raise CodealignError(
            f"k={k} needs at least {k} samples, {name} has {scores.size}; lower k or draw more"
        )
    return int(scores.size)
