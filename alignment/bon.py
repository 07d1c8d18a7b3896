"""Best-of-n: what the best of n samples by a proxy is worth by the gold score, exactly, from one pool.

Estimator of Nakano et al. 2021 (arXiv 2112.09332, appendix I), as in Coste et al. 2023 (arXiv 2310.02743,
eq. 8). With the pool's N samples of a prompt in ascending order of the proxy, g_i the gold score of rank i:

    R_n = sum over i = n..N of C(i-1, n-1) / C(N, n) x g_i

It is the mean over all subsets of size n, so unbiased for samples that are drawn independently, and exact for
n = 1 (the pool's mean) and n = N (the top sample). One sort serves every n.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from alignment.rewards.aggregation import FloatArray
from codegen_eval.errors import CodealignError, unknown

Ties = Literal["average", "last", "first"]
TIES: tuple[Ties, ...] = get_args(Ties)


def kl_bon(n: ArrayLike) -> FloatArray:
    """KL of best-of-n from the sampling policy in nats, ln n - (n-1)/n.

    An upper bound, met without ties and without atoms; few distinct completions make the true KL smaller.
    """
    n = np.asarray(n, dtype=np.float64)
    if np.any(~(n >= 1)):
        raise CodealignError(f"n must be 1 or more, got {n[~(n >= 1)].ravel()[0]}")
    kl: FloatArray = np.log(n) - (n - 1) / n
    return kl


def rank_weights(pool: int, n: int) -> FloatArray:
    """C(i-1, n-1) / C(N, n) for the ranks i = 1..N, shape (N,); 0 below rank n.

    Raises:
        CodealignError: Unless 1 <= n <= N.
    """
    n = checked_n(n, pool)
    weights = np.zeros(pool)
    weights[-1] = n / pool
    if n < pool:
        # w_(i-1) = w_i (i-n)/(i-1), from the top: no big integers, underflow ends in a true 0.
        i = np.arange(pool, n, -1, dtype=np.float64)
        weights[n - 1 : -1] = (weights[-1] * np.cumprod((i - n) / (i - 1)))[::-1]
    return weights


def checked_n(n: int, pool: int) -> int:
    """`n` as an int; a CodealignError unless it is a whole number from 1 to the pool's size."""
    try:
        number = operator.index(n)
    except TypeError:
        raise CodealignError(f"n must be a whole number, got {n!r}") from None
    if not 1 <= number <= pool:
        raise CodealignError(
            f"n={number} needs at least {number} samples a prompt, the pool has {pool}; lower n or draw more"
        )
    return number


@dataclass(frozen=True, slots=True)
class RankedPool:
    """A pool in ascending order of the proxy, from which any n costs a product of matrices.

    Attributes:
        gold: Gold scores in that order, shape (prompts, N); ties settled by the rule.
        proxy: Proxy scores in that order.
    """

    gold: FloatArray
    proxy: FloatArray

    def curve(self, ns: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """Expected gold and proxy score of the best of n, each of shape (prompts, len(ns)).

        Raises:
            CodealignError: For an n outside 1..N.
        """
        weights = np.stack([rank_weights(self.gold.shape[1], n) for n in ns], axis=1)
        return self.gold @ weights, self.proxy @ weights


def rank_pool(proxy: ArrayLike, gold: ArrayLike, *, ties: Ties = "average") -> RankedPool:
    """Sorts a pool by its proxy.

    Args:
        proxy: Proxy scores, shape (prompts, N), or (N,) for one prompt; higher is better.
        gold: Gold scores of the same samples.
        ties: Which of equal proxy scores wins: "average" (a random one: its expectation is exact), "last" or
            "first" in the pool's order. Pass rates tie heavily; only "average" does not depend on the order.

    Raises:
        CodealignError: For unequal shapes, an empty pool, an unknown rule, or scores that are not finite.
    """
    if ties not in TIES:
        raise unknown("tie rule", ties, TIES)
    first = np.atleast_2d(np.asarray(proxy, dtype=np.float64))
    second = np.atleast_2d(np.asarray(gold, dtype=np.float64))
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise CodealignError(
            f"proxy and gold scores must both have shape (prompts, samples), got {first.shape} and "
            f"{second.shape}"
        )
    for name, array in (("proxy", first), ("gold", second)):
        if not np.isfinite(array).all():
            prompt, sample = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise CodealignError(
                f"the {name} score of prompt {prompt}, sample {sample} is {array[prompt, sample]}"
            )
    ranked = RankedPool(np.empty_like(second), np.empty_like(first))
    for row in range(len(first)):
        _sort_into(ranked.proxy[row], ranked.gold[row], first[row], second[row], ties)
    return ranked


def _sort_into(
    proxy_out: FloatArray, gold_out: FloatArray, proxy: FloatArray, gold: FloatArray, ties: Ties
) -> None:
    """Writes one prompt's scores in the proxy's order, ties settled."""
    if ties == "first":  # the stable order of the reversed pool: the earliest of equals comes last
        proxy, gold = proxy[::-1], gold[::-1]
    order = proxy.argsort(kind=None if ties == "average" else "stable")
    # "clip" spares a copy; an order is never out of bounds.
    proxy.take(order, out=proxy_out, mode="clip")
    gold.take(order, out=gold_out, mode="clip")
    if ties == "average" and (proxy_out[1:] == proxy_out[:-1]).any():
        gold_out[:] = _averaged(proxy_out, gold_out)


def _averaged(proxy: FloatArray, gold: FloatArray) -> FloatArray:
    """Gold scores of one prompt, each block of equal proxy scores replaced by its mean."""
    starts = np.flatnonzero(np.concatenate([[True], proxy[1:] != proxy[:-1]]))
    sizes = np.diff(np.append(starts, len(proxy)))
    means: FloatArray = np.add.reduceat(gold, starts) / sizes
    return np.repeat(means, sizes)
