"""B4: the consensus set that is most probable a posteriori (Chen et al. 2024, arXiv 2409.08692).

A right program passes exactly the right tests, so right programs share one row and that row marks the right
tests. With conjugate priors the posterior of "this set is the right one" is a product of four Beta functions
(closed form, log space). Departs from the authors' code in three points: scores within 1e-9 relative tie;
programs and tests can be counted with their multiplicity (`weights`); hyper-parameters have a default that
scales with the matrix (`default_hyperparameters`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from codegen_eval.ranking.common import (
    RANKERS,
    FloatArray,
    Ranking,
    View,
    as_passed,
    as_weights,
    consensus_sets,
    ranking,
)

_SMALL_CELLS, _LARGE_CELLS = 300.0, 10_000.0  # 10 x 30, the authors' simulation; 100 x 100, their real data


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


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"B4 needs a finite {name} above 0, got {value}")
    return float(value)


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
        ValueError: Bad shape, weights below 1, hyper-parameters that are not finite and positive.
    """
    alpha_xy, beta_0 = _positive("alpha_xy", alpha_xy), _positive("beta_0", beta_0)
    matrix = as_passed(passed)
    code_w = as_weights(code_weights, matrix.shape[0], "code_weights")
    test_w = as_weights(test_weights, matrix.shape[1], "test_weights")
    sets = consensus_sets(matrix)
    n_codes, n_tests = code_w.sum(), test_w.sum()
    column = (code_w @ matrix) * test_w  # weighted passes of each test
    size = np.bincount(sets.set_of, weights=code_w, minlength=len(sets.members))
    k = sets.rows @ test_w
    on_right = sets.rows @ column
    e1 = on_right - size * k  # passes of the other programs on this set's tests, and on the rest
    e0 = column.sum() - on_right
    m1 = (n_codes - size) * k
    m0 = (n_codes - size) * (n_tests - k)
    score = (
        betaln(k + alpha_xy, n_tests - k + 1)
        + betaln(size + alpha_xy, n_codes - size + 1)
        + betaln(e1 + 1, m1 - e1 + 1)
        + betaln(e0 + 1, m0 - e0 + beta_0)
    )
    return np.asarray(score, dtype=np.float64)[sets.set_of]


@RANKERS.register("b4")
def b4(view: View) -> Ranking:
    """B4 with the view's hyper-parameters, or the default ones for its size."""
    alpha_xy, beta_0 = default_hyperparameters(float(view.code_weights.sum()), float(view.test_weights.sum()))
    alpha_xy = alpha_xy if view.alpha_xy is None else view.alpha_xy
    beta_0 = beta_0 if view.beta_0 is None else view.beta_0
    scores = b4_scores(
        view.passed,
        alpha_xy=alpha_xy,
        beta_0=beta_0,
        code_weights=view.code_weights,
        test_weights=view.test_weights,
    )
    return ranking(scores, "log_posterior", alpha_xy=alpha_xy, beta_0=beta_0)
