"""Estimators against quadratics whose answers are known, sums over edges, and averages over many draws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from alignment.zeroth_order.estimators import (
    coordinate_gradient,
    paired_mean,
    ranking_coefficients,
    spsa_coefficient,
    spsa_gradient,
)
from codegen_eval.errors import CodealignError

A = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 3.0]])
B = np.array([1.0, -2.0, 0.5])
X = np.array([0.3, -0.7, 1.1])
GRADIENT = A @ X - B


def quadratic(x: np.ndarray) -> float:
    return float(0.5 * x @ A @ x - B @ x)


def test_on_a_quadratic_the_factor_is_the_slope_along_the_direction_whatever_eps() -> None:
    # (L(x + e z) - L(x - e z)) / 2e = z.(A x - b) exactly: the even terms cancel.
    z = np.array([1.0, 2.0, -1.0])
    for eps in (1e-3, 0.1, 5.0):
        found = spsa_coefficient(quadratic(X + eps * z), quadratic(X - eps * z), eps)
        assert found == pytest.approx(float(z @ GRADIENT), rel=1e-6)


def test_the_sample_form_averages_the_directions() -> None:
    zs = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # The identity's rows give the gradient's entries, a third of each.
    assert spsa_gradient(quadratic, X, zs, 0.01) == pytest.approx(GRADIENT / 3, rel=1e-6)


def test_the_estimate_is_unbiased_within_three_standard_errors() -> None:
    rng = np.random.default_rng(5)
    draws = np.array([spsa_gradient(quadratic, X, rng.normal(size=(1, 3)), 1e-3) for _ in range(4000)])
    error = draws.std(axis=0, ddof=1) / math.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - GRADIENT) < 3 * error).all()
    # Var(g_i) = |grad|^2 + grad_i^2 for g = (z.grad) z: a scale that is off by sqrt(2) would show here.
    expected = np.sqrt(GRADIENT @ GRADIENT + GRADIENT**2)
    assert draws.std(axis=0, ddof=1) == pytest.approx(expected, rel=0.1)


def test_forward_differences_are_off_by_half_the_curvature() -> None:
    eps = 1e-3
    assert coordinate_gradient(quadratic, X, eps) == pytest.approx(GRADIENT + eps * np.diag(A) / 2, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_factor_that_is_not_finite_is_none_and_never_a_number(bad: float) -> None:
    assert spsa_coefficient(bad, 1.0, 0.1) is None
    assert spsa_coefficient(1.0, bad, 0.1) is None
    assert spsa_coefficient(bad, bad, 0.1) is None
    assert spsa_coefficient(1e38, -1e38, 1e-3) is None, "beyond float32, in which it is stored"
    with pytest.raises(CodealignError, match="not finite near x"):
        spsa_gradient(lambda _: bad, X, np.ones((1, 3)), 0.1)


def test_rows_without_a_value_on_one_side_count_on_neither() -> None:
    plus, minus = paired_mean([1.0, None, 3.0, 100.0], [0.0, 50.0, 1.0, None])
    assert (plus, minus) == (2.0, 0.5)
    assert all(math.isnan(value) for value in paired_mean([None, 1.0], [1.0, None]))
    assert math.isnan(paired_mean([math.inf, -math.inf], [0.0, 0.0])[0])
    with pytest.raises(CodealignError, match="2 values against 1"):
        paired_mean([1.0, 2.0], [1.0])


def edge_sum(losses: list[float], keep: int) -> list[float]:
    """The gradient's factors by the paper's sum over edges, for values without ties."""
    m = len(losses)
    order = sorted(range(m), key=lambda i: losses[i])
    edges = [(i, j) for a, i in enumerate(order) for b, j in enumerate(order) if a < b and a < keep]
    factors = [0.0] * m
    for better, worse in edges:
        factors[worse] += 1 / len(edges)
        factors[better] -= 1 / len(edges)
    return factors


@pytest.mark.parametrize(("m", "keep"), [(m, k) for m in (2, 3, 5) for k in range(1, m + 1)])
def test_ranking_is_the_mean_over_the_edges_that_are_known(m: int, keep: int) -> None:
    for losses in itertools.islice(itertools.permutations([0.1, 0.5, 0.7, 2.0, 9.0][:m]), 12):
        found = ranking_coefficients(list(losses), keep)
        assert found == pytest.approx(edge_sum(list(losses), keep), abs=1e-6)
        assert sum(f for f in found if f is not None) == pytest.approx(0, abs=1e-6)


def test_ranking_steps_towards_the_best_and_ties_share() -> None:
    best, *others = ranking_coefficients([1.0, 2.0, 2.0], 1)
    assert best is not None and best < 0 and others[0] == others[1] == -best / 2
    assert ranking_coefficients([4.0, 4.0, 4.0], 2) == pytest.approx([0, 0, 0])
    tied = ranking_coefficients([1.0, 1.0, 5.0], 1)
    assert tied[0] == tied[1] == pytest.approx(-0.25) and tied[2] == pytest.approx(0.5)


def test_ranking_puts_what_is_not_finite_last() -> None:
    assert ranking_coefficients([math.nan, 1.0, 2.0], 1) == ranking_coefficients([math.inf, 1.0, 2.0], 1)
    assert ranking_coefficients([math.nan, 1.0, 2.0], 1)[1] == pytest.approx(-1)
    assert ranking_coefficients([math.nan, math.inf], 1) == [None, None]
    for keep in (0, 4):
        with pytest.raises(CodealignError, match="1 <= keep <= 3"):
            ranking_coefficients([1.0, 2.0, 3.0], keep)
