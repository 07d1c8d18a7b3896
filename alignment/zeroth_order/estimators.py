"""From values of an objective at a few points to how far to go along each random direction.

`spsa_coefficient`: MeZO's two-sided estimator (Malladi et al. 2023, arXiv 2305.17333, definition 1).
`ranking_coefficients`: the ranking oracle (Tang et al. 2023, arXiv 2303.03751), which needs the order of the
candidates alone. The authors' released code weighs the r-th best by m - 2r, which does not sum to zero and so
drifts along the mean of the directions; this is the paper's sum over edges.
`coordinate_gradient`: one forward difference a coordinate, for a handful of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError

FloatArray = NDArray[np.float64]
Values = Sequence[float | None]
"""The objective of each row of a batch; None where it says nothing of the row."""


def rounded(value: float, digits: int = 9) -> float:
    """The value with nine significant digits, a float32's worth: what a log holds is what was done."""
    return float(f"{value:.{digits}g}")


def paired_mean(plus: Values, minus: Values) -> tuple[float, float]:
    """Means of both over the rows that have a value in both; NaN where none has.

    Raises:
        CodealignError: If the numbers of rows differ.
    """
    if len(plus) != len(minus):
        raise CodealignError(f"{len(plus)} values against {len(minus)}: both must be of the same rows")
    both = [(p, m) for p, m in zip(plus, minus, strict=True) if p is not None and m is not None]
    if not both:
        return math.nan, math.nan
    # Not fsum, which raises where infinities of both signs meet.
    return sum(p for p, _ in both) / len(both), sum(m for _, m in both) / len(both)


def spsa_coefficient(plus: float, minus: float, eps: float, directions: int = 1) -> float | None:
    """Factor of one direction z in the gradient's estimate: (L(x + eps z) - L(x - eps z)) / (2 eps n).

    Args:
        plus: L(x + eps z).
        minus: L(x - eps z).
        eps: Step of the difference.
        directions: n, the number of directions that are averaged.

    Returns:
        The factor, `rounded`; None where it is not finite, or beyond a float32.
    """
    value = (plus - minus) / (2 * eps * directions)
    if not math.isfinite(value) or abs(value) > float(np.finfo(np.float32).max):
        return None
    return rounded(value)


def ranking_coefficients(losses: Sequence[float], keep: int) -> list[float | None]:
    """Factors of m directions from the order of the objective at x + eps z_i.

    The mean of z_j - z_i over the edges (i better than j) that a ranking of the `keep` best shows: among
    those and from each of them to all others. Candidates that tie share the mean of their ranks' factors; one
    whose value is not finite is behind all others.

    Args:
        losses: The objective of each candidate, lower is better, shape (m,).
        keep: k, the number of the best whose order counts, 1 <= k < m or k = m.

    Returns:
        The factors; their sum is 0. None for each where no value is finite.

    Raises:
        CodealignError: For fewer than two candidates, or k outside [1, m].
    """
    m = len(losses)
    if m < 2 or not 1 <= keep <= m:
        raise CodealignError(f"ranking needs two candidates or more and 1 <= keep <= {m} (given: {keep})")
    if not any(math.isfinite(loss) for loss in losses):
        return [None] * m
    values = np.array([loss if math.isfinite(loss) else math.inf for loss in losses])
    order = np.argsort(values, kind="stable")
    by_rank = np.array([m - 1 - 2 * r if r < keep else -keep for r in range(m)], dtype=np.float64)
    factors = np.empty(m)
    for value in np.unique(values):
        tied = values[order] == value
        factors[order[tied]] = by_rank[tied].mean()
    edges = keep * (keep - 1) / 2 + keep * (m - keep)
    return [rounded(-factor / edges) for factor in factors]


def coordinate_gradient(loss: Callable[[FloatArray], float], x: FloatArray, eps: float) -> FloatArray:
    """The gradient by forward differences, (L(x + eps e_i) - L(x)) / eps; len(x) + 1 evaluations.

    Args:
        loss: The objective.
        x: Where, shape (parameters,).
        eps: Step of the differences.
    """
    base = loss(x)
    found = np.empty_like(x)
    for i in range(len(x)):
        moved = x.copy()
        moved[i] += eps
        found[i] = (loss(moved) - base) / eps
    return found


def spsa_gradient(
    loss: Callable[[FloatArray], float], x: FloatArray, directions: FloatArray, eps: float
) -> FloatArray:
    """The n-sample estimate of the gradient that the trainer follows, on plain arrays.

    Args:
        loss: The objective.
        x: Where, shape (parameters,).
        directions: z_1 to z_n, shape (n, parameters).
        eps: Step of the differences.

    Raises:
        CodealignError: If a difference is not finite.
    """
    found = np.zeros_like(x)
    for z in directions:
        factor = spsa_coefficient(loss(x + eps * z), loss(x - eps * z), eps, len(directions))
        if factor is None:
            raise CodealignError(f"the objective is not finite near x (eps={eps:g})")
        found += factor * z
    return found
