"""Regret of a trace: what its J curve loses against a comparator (MRT, arXiv 2503.07572, definition 4.1).

By episodes the comparator is a curve J*, or 1 for an oracle; by tokens it is always 1, over a budget, as in
the authors' notebook (regret.ipynb). Where their code counts the prompt's tokens or divides by a number of
stops that was not sampled, nothing here does: give tokens and J as you mean them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

FloatArray = NDArray[np.float64]


def cumulative_regret(j: ArrayLike, j_star: ArrayLike | None = None) -> FloatArray:
    """Sum of J* - J over the episodes up to each, (episodes,); J* None is an oracle that is always right.

    Raises:
        CodealignError: For curves of unequal length, empty ones, or values outside [0, 1].
    """
    own = _curve("J", j)
    best = np.ones_like(own) if j_star is None else _curve("J_star", j_star)
    if own.shape != best.shape:
        raise CodealignError(f"J has {own.size} episodes, J_star {best.size}: compare at the same ones")
    return np.cumsum(best - own)


def regret(j: ArrayLike, j_star: ArrayLike | None = None) -> float:
    """The last value of `cumulative_regret`."""
    return float(cumulative_regret(j, j_star)[-1])


def normalised_regret(j: ArrayLike, j_star: ArrayLike | None = None) -> float:
    """Regret over the sum of J*: 0 where the comparator is met, 1 where nothing is ever right.

    Raises:
        CodealignError: As `cumulative_regret`, or a comparator that is never right.
    """
    best = np.ones_like(_curve("J", j)) if j_star is None else _curve("J_star", j_star)
    if not best.sum() > 0:
        raise CodealignError("the comparator J_star is 0 everywhere: regret against it has no scale")
    return regret(j, j_star) / float(best.sum())


def token_regret(j: ArrayLike, tokens: ArrayLike, budget: float, *, j_empty: float = 0.0) -> float:
    """1 - (area below the curve of J by tokens, up to the budget) / budget; from 0 to 1.

    The curve runs straight from (0, j_empty) through (tokens_j, J_j), is cut at the budget, and stays level
    behind the last point.

    Args:
        j: J after each prefix, (prefixes,).
        tokens: Tokens of each prefix, rising, above 0.
        budget: Tokens, above 0.
        j_empty: J at 0 tokens: 0 as in the notebook, or J of the empty prefix.

    Raises:
        CodealignError: For curves that do not fit, tokens that do not rise, or a budget of 0 or less.
    """
    own, places = _curve("J", j), np.asarray(tokens, dtype=np.float64)
    if places.shape != own.shape:
        raise CodealignError(f"J has {own.size} prefixes, tokens {places.shape}: give one number each")
    if not (np.isfinite(places).all() and places[0] > 0 and (np.diff(places) > 0).all()):
        raise CodealignError(f"tokens must rise from above 0, got {places.tolist()[:10]}")
    if not 0 < budget < np.inf:
        raise CodealignError(f"the budget is {budget} tokens: give a number above 0")
    x = np.concatenate([[0.0], places])
    y = np.concatenate([_curve("j_empty", [j_empty]), own])
    inside = x < budget
    x_cut = np.append(x[inside], budget)
    y_cut = np.append(y[inside], np.interp(budget, x, y))
    area = float((np.diff(x_cut) * (y_cut[1:] + y_cut[:-1]) / 2).sum())
    return 1.0 - area / budget


def _curve(name: str, values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not ((array >= 0) & (array <= 1)).all():
        raise CodealignError(f"{name} must be one or more numbers from 0 to 1, got {array.tolist()}")
    return array
