"""Whether probabilities mean what they say: reliability, and B4's hyper-parameters from the matrices alone.

A posterior is a probability only under its priors. `fit_hyperparameters` chooses those under which the
matrices of many problems are most probable (type-II maximum likelihood); it sees no labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import betaln

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.b4 import SetCounts, count_sets
from codegen_eval.ranking.common import as_passed, consensus_sets
from codegen_eval.ranking.posterior import hypotheses

MIN_PROBLEMS = 20
_LOWEST, _HIGHEST = 1e-2, 1e7


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of one range: mean prediction, share that came true, and how many they are."""

    predicted: float
    observed: float
    count: int

    @property
    def error(self) -> float:
        """Standard error of the observed share."""
        return float(np.sqrt(max(self.observed * (1 - self.observed), 1e-12) / self.count))


def reliability(predicted: ArrayLike, outcomes: ArrayLike, edges: ArrayLike) -> list[Bin]:
    """Predictions grouped by `edges` (ascending, the last range closed); empty ranges are left out.

    Args:
        predicted: (n,) probabilities.
        outcomes: (n,) whether each came true.
        edges: (bins + 1,) ends of the ranges.

    Raises:
        CodealignError: Lengths differ, or a prediction lies outside the edges or is NaN.
    """
    values, came_true = np.asarray(predicted, np.float64), np.asarray(outcomes, np.float64)
    ends = np.asarray(edges, np.float64)
    if values.shape != came_true.shape:
        raise CodealignError(f"{values.shape} predictions do not fit {came_true.shape} outcomes")
    if values.size and not ((values >= ends[0]) & (values <= ends[-1])).all():
        raise CodealignError(f"predictions must lie between {ends[0]} and {ends[-1]}")
    place = np.minimum(np.searchsorted(ends, values, side="right") - 1, len(ends) - 2)
    return [
        Bin(float(values[place == b].mean()), float(came_true[place == b].mean()), int((place == b).sum()))
        for b in range(len(ends) - 1)
        if (place == b).any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Mean distance of prediction and outcome over the bins, weighted by their counts (ECE)."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.predicted - b.observed) for b in bins) / max(total, 1)


def counts_of(passed: ArrayLike) -> SetCounts:
    """The consensus sets' counts of a matrix of 0 and 1, every program and test counted once."""
    matrix = as_passed(passed)
    return count_sets(consensus_sets(matrix), np.ones(matrix.shape[0]), np.ones(matrix.shape[1]))


def log_evidence(counts: SetCounts, alpha_xy: float, beta_0: float) -> float:
    """Log probability of a matrix given that some program is right, up to what no hyper-parameter changes."""
    scores = hypotheses(counts, alpha_xy, beta_0).log_joint
    top = float(scores.max())
    joint = top + float(np.log(np.exp(scores - top).sum()))
    prior = 2 * float(betaln(alpha_xy, 1.0)) + float(betaln(1.0, beta_0))
    nobody = float(betaln(alpha_xy, counts.codes + 1) - betaln(alpha_xy, 1.0))
    return joint - prior - float(np.log1p(-np.exp(nobody)))


def fit_hyperparameters(matrices: Sequence[ArrayLike]) -> tuple[float, float]:
    """(alpha_xy, beta_0) in [1e-2, 1e7] under which the matrices of many problems are most probable.

    Args:
        matrices: One (codes, tests) matrix of 0 and 1 a problem.

    Raises:
        CodealignError: Fewer than 20 matrices that tell programs apart.
    """
    found = [counts_of(m) for m in matrices]
    found = [c for c in found if len(c.size) > 1]
    if len(found) < MIN_PROBLEMS:
        raise CodealignError(
            f"{len(found)} matrices tell programs apart; fitting B4's hyper-parameters needs at least "
            f"{MIN_PROBLEMS}: give more problems, or set alpha_xy and beta_0"
        )

    def loss(logs: ArrayLike) -> float:
        alpha_xy, beta_0 = np.exp(np.asarray(logs))
        return -sum(log_evidence(c, float(alpha_xy), float(beta_0)) for c in found)

    bounds = [(np.log(_LOWEST), np.log(_HIGHEST))] * 2
    # Nelder-Mead: two parameters, and the sum of log-gamma functions is smooth but for rounding.
    best = minimize(loss, np.log([1.0, 10.0]), method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-3})
    alpha_xy, beta_0 = np.exp(best.x)
    return float(alpha_xy), float(beta_0)
