"""B4: the consensus set that is most probable a posteriori (Chen et al. 2024, arXiv 2409.08692).

A right program passes exactly the right tests, so right programs share one row and that row marks the right
tests. With conjugate priors the posterior of "this set is the right one" is a product of four Beta functions
(closed form, log space). Departs from the authors' code in three points: scores within 1e-9 relative tie;
programs and tests can be counted with their multiplicity (`weights`); hyper-parameters have a default that
scales with the matrix (`default_hyperparameters`). Probabilities are in `ranking/posterior.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from codegen_eval.ranking.common import (
    RANKERS,
    ConsensusSets,
    FloatArray,
    Ranking,
    View,
    as_passed,
    as_weights,
    consensus_sets,
    positive,
    ranking,
    set_sizes,
)

_SMALL_CELLS, _LARGE_CELLS = 300.0, 10_000.0  # 10 x 30, the authors' simulation; 100 x 100, their real data

_MOST_LOOKED_UP = 100_000


def default_hyperparameters(codes: float, tests: float) -> tuple[float, float]:
    """(alpha_xy, beta_0) for a matrix of `codes` x `tests`, counted with multiplicity.

    Geometric interpolation, over the number of cells, between the two settings with evidence: (10, 10) up to
    10 x 30 and (1e3, 1e5) from 100 x 100 on. alpha_xy is at least the number of programs: from there on,
    scoring whole consensus sets loses nothing against scoring every subset.
    """
    cells = max(codes * tests, 1.0)
    t = math.log(cells / _SMALL_CELLS) / math.log(_LARGE_CELLS / _SMALL_CELLS)
    t = min(max(t, 0.0), 1.0)
    return max(10.0 ** (1 + 2 * t), float(codes)), 10.0 ** (1 + 4 * t)


class SetCounts(NamedTuple):
    """What the posterior of each consensus set depends on; all (sets,) but the two totals.

    Attributes:
        size: Programs of the set.
        k: Tests that they pass.
        e1: Passes of the other programs on those tests.
        m1: Cells of the other programs on those tests.
        e0: Passes of the other programs on the remaining tests.
        m0: Cells of the other programs on the remaining tests.
        codes: All programs.
        tests: All tests.
        whole: Whether all of them are surely whole numbers.
    """

    size: FloatArray
    k: FloatArray
    e1: FloatArray
    m1: FloatArray
    e0: FloatArray
    m0: FloatArray
    codes: float
    tests: float
    whole: bool = False


def count_sets(
    sets: ConsensusSets, code_weights: FloatArray | None, test_weights: FloatArray | None
) -> SetCounts:
    """The counts of all sets by one product of rows and column sums, counted with multiplicity; None counts
    each once.
    """
    size, rows = set_sizes(sets, code_weights), sets.rows.astype(np.float64)
    codes = float(len(sets.set_of) if code_weights is None else code_weights.sum())
    tests = float(rows.shape[1] if test_weights is None else test_weights.sum())
    # `dot`, as `@` takes a third longer where matrices are small.
    column = size.dot(rows)  # passes of each test
    if test_weights is None:
        k = rows.dot(np.ones(rows.shape[1]))
    else:
        k, column = rows.dot(test_weights), column * test_weights
    on_right = rows.dot(column)
    others = codes - size
    m1 = others * k
    return SetCounts(
        size,
        k,
        on_right - size * k,
        m1,
        size.dot(k) - on_right,
        others * tests - m1,
        codes,
        tests,
        _whole(code_weights) and _whole(test_weights),
    )


def _whole(weights: FloatArray | None) -> bool:
    return weights is None or bool((weights == np.floor(weights)).all())


@lru_cache(maxsize=64)
def _table(total: int, alpha: float) -> FloatArray:
    counts = np.arange(total + 1.0)
    return np.asarray(betaln(counts + alpha, total - counts + 1), dtype=np.float64)


def _log_prior(counts: FloatArray, total: float, alpha: float, whole: bool) -> FloatArray:
    """Log B(counts + alpha, total - counts + 1); whole counts are looked up, shared by problems of a size."""
    if whole and total <= _MOST_LOOKED_UP:
        return _table(int(total), alpha)[counts.astype(np.intp)]
    return np.asarray(betaln(counts + alpha, total - counts + 1), dtype=np.float64)


def log_posterior(counts: SetCounts, alpha_xy: float, beta_0: float) -> FloatArray:
    """Log posterior (sets,) of each set being the right one, up to a constant.

    Raises:
        CodealignError: A hyper-parameter that is not finite and positive.
    """
    alpha, beta = positive("B4's alpha_xy", alpha_xy), positive("B4's beta_0", beta_0)
    c = counts
    score = (
        _log_prior(c.k, c.tests, alpha, c.whole)
        + _log_prior(c.size, c.codes, alpha, c.whole)
        + betaln(c.e1 + 1, c.m1 - c.e1 + 1)
        + betaln(c.e0 + 1, c.m0 - c.e0 + beta)
    )
    return np.asarray(score, dtype=np.float64)


def b4_scores(
    passed: ArrayLike,
    *,
    alpha_xy: float,
    beta_0: float,
    code_weights: ArrayLike | None = None,
    test_weights: ArrayLike | None = None,
) -> FloatArray:
    """Log posterior, up to a constant, of each program's consensus set being the right one.

    Args:
        passed: (codes, tests) of 0 and 1.
        alpha_xy: Prior count of right programs and of right tests; large = both are common.
        beta_0: Prior count of failures of wrong programs on wrong tests; large = accidental passes are rare.
        code_weights: (codes,) multiplicities, ones when absent.
        test_weights: (tests,) multiplicities, ones when absent.

    Returns:
        (codes,) float64, equal for programs with equal rows.

    Raises:
        CodealignError: Bad shape, weights below 1, hyper-parameters that are not finite and positive.
    """
    matrix = as_passed(passed)
    code_w = None if code_weights is None else as_weights(code_weights, matrix.shape[0], "code_weights")
    test_w = None if test_weights is None else as_weights(test_weights, matrix.shape[1], "test_weights")
    sets = consensus_sets(matrix)
    return log_posterior(count_sets(sets, code_w, test_w), alpha_xy, beta_0)[sets.set_of]


def normalised(scores: FloatArray) -> FloatArray:
    """exp(scores) divided by its sum; empty stays empty."""
    if not scores.size:
        return scores
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def hyperparameters(view: View) -> tuple[float, float]:
    """(alpha_xy, beta_0) in force: the view's own, else the default for its size."""
    if view.alpha_xy is not None and view.beta_0 is not None:
        return view.alpha_xy, view.beta_0
    default = default_hyperparameters(float(view.code_weights.sum()), float(view.test_weights.sum()))
    return (
        default[0] if view.alpha_xy is None else view.alpha_xy,
        default[1] if view.beta_0 is None else view.beta_0,
    )


@RANKERS.register("b4")
def b4(view: View) -> Ranking:
    """B4 with the view's hyper-parameters, or the default ones for its size."""
    alpha_xy, beta_0 = hyperparameters(view)
    sets = consensus_sets(view.passed)
    scores = log_posterior(count_sets(sets, view.code_weights, view.test_weights), alpha_xy, beta_0)
    return ranking(scores[sets.set_of], "log_posterior", alpha_xy=alpha_xy, beta_0=beta_0)
