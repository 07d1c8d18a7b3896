"""Scaling laws: known coefficients come back, and so do peaks; nonsense does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alignment.scaling_laws import Law, fit_law
from codegen_eval.errors import CodealignError

D = np.linspace(0, 3, 20)


@pytest.mark.parametrize("form", ["bon", "rl"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.2), (0.3, -0.1), (-0.5, 0.4)])
def test_coefficients_come_back_with_noise_within_its_size(form: str, a: float, b: float) -> None:
    true = Law(form, a, b, 0.0)  # type: ignore[arg-type]
    noise = 1e-3 * np.random.default_rng(0).normal(size=len(D))
    law = fit_law(D, true(D) + noise, form)  # type: ignore[arg-type]
    assert (law.a, law.b) == pytest.approx((a, b), abs=5e-3)
    assert 2e-4 < law.residual < 2e-3


def test_the_peak_is_where_the_law_is_largest() -> None:
    for law in (Law("bon", 1.0, 0.2, 0.0), Law("rl", 1.0, 0.5, 0.0)):
        assert law.peak is not None
        at, height = law.peak
        grid = np.linspace(0, 10, 100_001)
        assert law(grid).max() == pytest.approx(height, abs=1e-6)
        assert grid[law(grid).argmax()] == pytest.approx(at, abs=1e-3)


@pytest.mark.parametrize(
    "law",
    [
        Law("bon", 1.0, 0.0, 0.0),
        Law("bon", 1.0, -1.0, 0.0),
        Law("bon", -1.0, 1.0, 0.0),
        Law("rl", 1.0, 0.0, 0.0),
        Law("rl", 1.0, 1e-6, 0.0),  # e^(a/b) is no float
    ],
)
def test_a_law_that_never_turns_has_no_peak(law: Law) -> None:
    assert law.peak is None


def test_the_law_of_rl_is_0_at_0() -> None:
    assert Law("rl", 1.0, 0.5, 0.0)(0.0) == 0.0
    assert math.isfinite(fit_law(D, D, "rl").a)


@pytest.mark.parametrize(
    ("d", "reward", "message"),
    [
        ([1.0], [1.0], "two or more distinct"),
        ([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], "two or more distinct"),
        ([-1.0, 1.0, 2.0], [0.0, 1.0, 1.0], "none below"),
        ([1.0, 2.0], [1.0], "as many"),
        ([1.0, 2.0], [1.0, float("nan")], "finite"),
    ],
)
def test_points_that_fix_no_law_are_refused(d: list[float], reward: list[float], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        fit_law(d, reward)


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises(CodealignError, match="unknown scaling law 'ppo'"):
        fit_law([1.0, 2.0], [1.0, 2.0], "ppo")  # type: ignore[arg-type]
