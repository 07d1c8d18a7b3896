"""n@k: the chance that one of n submissions, chosen among k samples, is right (AlphaCode, arXiv 2203.07814).

Samples that fail a problem's public tests are never submitted; of the others, n are, or all where there are
fewer. Which ones is left to chance here, so the value is that of filtering alone: AlphaCode's clustering
chooses better. Exact for the samples at hand: the mean over all ways to draw k of them and to submit n.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.pass_at_k import pass_at_k


def n_at_k(
    samples: ArrayLike,
    filtered: ArrayLike,
    right: ArrayLike,
    n: int,
    k: int,
    *,
    task_ids: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Chance of each problem to be solved.

    With N samples of which F pass the public tests and R all tests, f of k drawn pass the filter with the
    hypergeometric chance H(f; N, F, k), and min(n, f) of those are a random subset of the F:
    sum_f H(f; N, F, k) * pass@min(n, f) of R right ones among F.

    Args:
        samples: N, shape (problems,) or a scalar for all.
        filtered: F, likewise.
        right: R, likewise; a right sample passes the public tests.
        n: Submissions.
        k: Samples that they are chosen from.
        task_ids: Names of the problems, for error messages.

    Returns:
        Shape (problems,), float64 in [0, 1].

    Raises:
        CodealignError: For n < 1, k < n, fewer than k samples, or counts that are not 0 <= R <= F <= N.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= k:
        raise CodealignError(f"n@k needs whole numbers 1 <= n <= k, got n={n!r} and k={k!r}")
    pass_at_k(samples, filtered, k, task_ids=task_ids)  # counts, and k samples of each problem
    total, kept, hits = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(counts, dtype=np.float64)) for counts in (samples, filtered, right))
    )
    for index in np.flatnonzero(~((hits >= 0) & (hits <= kept)) | (hits != np.floor(hits)))[:1]:
        name = f"task {task_ids[index]!r}" if task_ids is not None else f"problem {index}"
        raise CodealignError(f"{name} has {hits[index]:g} right samples among {kept[index]:g} filtered ones")
    rows = zip(*(column.astype(np.int64).tolist() for column in (total, kept, hits)), strict=True)
    return np.array([_one(*row, n=n, k=k) for row in rows])


def _one(samples: int, filtered: int, right: int, *, n: int, k: int) -> float:
    if right == 0:
        return 0.0
    fewest, most = max(0, k - (samples - filtered)), min(k, filtered)
    drawn = np.arange(fewest, most + 1)
    logs = _log_choose(filtered, drawn) + _log_choose(samples - filtered, k - drawn) - _log_choose(samples, k)
    chances = np.exp(logs - logs.max())
    chances /= chances.sum()
    submitted = np.minimum(drawn, n)
    solved = np.zeros(len(drawn))
    for m in np.unique(submitted[submitted > 0]).tolist():
        solved[submitted == m] = pass_at_k(filtered, right, m)[0]
    return float(min(1.0, chances @ solved))


def _log_choose(n: int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    return np.asarray(gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1))
