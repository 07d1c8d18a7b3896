"""Regret against an integral by hand and its two ends."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mrt.regret import cumulative_regret, normalised_regret, regret, token_regret
from codegen_eval.errors import CodealignError

RNG = np.random.default_rng(1)


def test_regret_is_0_against_oneself_and_1_where_nothing_is_right() -> None:
    j = RNG.random(7)
    assert regret(j, j) == 0 and normalised_regret(j, j) == 0
    assert normalised_regret(np.zeros(7), j) == pytest.approx(1)
    assert normalised_regret(np.zeros(7)) == 1 and normalised_regret(np.ones(7)) == 0
    assert np.diff(cumulative_regret(j)) == pytest.approx(1 - j[1:])


@pytest.mark.parametrize("budget", [50.0, 300.0, 999.5, 5000.0])
def test_token_regret_is_one_minus_the_mean_height_of_the_curve(budget: float) -> None:
    j, tokens = RNG.random(6), np.cumsum(RNG.integers(50, 400, 6))
    grid = (np.arange(1_000_000) + 0.5) * budget / 1_000_000
    for empty in (0.0, 0.4):
        height = np.interp(grid, [0, *tokens], [empty, *j])
        found = token_regret(j, tokens, budget, j_empty=empty)
        assert found == pytest.approx(1 - height.mean(), abs=1e-6)


def test_being_right_earlier_lowers_token_regret_and_the_last_value_holds() -> None:
    assert token_regret([1.0], [100], 1000) < token_regret([1.0], [200], 1000)
    assert token_regret([1.0], [100], 1000) == pytest.approx(0.05)
    assert token_regret([1.0, 1.0], [100, 1000], 1000) == pytest.approx(0.05)


def test_curves_that_say_nothing_are_refused() -> None:
    for call, message in (
        (lambda: regret([0.1, 1.2]), "from 0 to 1"),
        (lambda: regret([]), "from 0 to 1"),
        (lambda: regret([0.1], [0.1, 0.2]), "compare at the same"),
        (lambda: normalised_regret([0.0], [0.0]), "no scale"),
        (lambda: token_regret([0.1, 0.2], [5, 5], 10), "tokens must rise"),
        (lambda: token_regret([0.1], [0], 10), "tokens must rise"),
        (lambda: token_regret([0.1], [5], 0), "budget is 0"),
        (lambda: token_regret([0.1], [5, 6], 10), "one number each"),
    ):
        with pytest.raises(CodealignError, match=message):
            call()
