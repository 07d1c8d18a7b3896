"""ENAMEL's score by hand, its limits, and what it refuses."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.enamel import efficiency_score, hodges_lehmann, score_levels, time_limit

TIMES = st.lists(st.floats(1e-6, 10), min_size=1, max_size=8)


@given(TIMES)
def test_hodges_lehmann_is_the_median_of_pairwise_means(times: list[float]) -> None:
    wanted = median((a + b) / 2 for a, b in combinations_with_replacement(times, 2))
    assert hodges_lehmann(times) == pytest.approx(wanted, rel=1e-12)


def test_one_outlier_of_six_does_not_count_for_much() -> None:
    assert hodges_lehmann([1.0, 1.0, 1.0, 1.0, 1.0, 100.0]) == 1.0


def test_a_sample_as_fast_as_the_reference_scores_one() -> None:
    levels = [[[0.1]], [[1.0], [2.0]], [[3.0]], [[5.0]]]
    assert efficiency_score(levels, levels).value == pytest.approx(1.0)


def test_by_hand() -> None:
    # T = 2 * 5 = 10; levels (10-4)/(10-2), (10-6)/(10-3), 10 is the limit: 0
    found = score_levels([9.0, 2.0, 3.0, 5.0], [1.0, 4.0, 6.0, 10.0])
    assert found.levels == (None, pytest.approx(6 / 8), pytest.approx(4 / 7), 0.0)
    assert found.value == pytest.approx((3 * 6 / 8 + 3 * 4 / 7) / 10) and found.time_limit == 10.0


def test_the_ceiling_is_alpha_over_alpha_minus_one_on_the_slowest_level() -> None:
    assert score_levels([1.0, 5.0], [0.0, 0.0], (0, 1)).value == pytest.approx(2.0)


@pytest.mark.parametrize("cut", [None, math.inf])
def test_a_cut_level_and_all_later_ones_score_zero(cut: float | None) -> None:
    assert score_levels([1.0] * 4, [0.5, 1.0, cut, 0.1]).levels == (None, pytest.approx(1.0), 0.0, 0.0)


def test_a_level_of_weight_zero_that_was_cut_censors_the_rest() -> None:
    assert score_levels([1.0, 1.0], [None, 0.1], (0, 1)).value == 0.0


def test_a_wrong_sample_scores_zero_however_fast() -> None:
    levels = [[[1.0]]]
    found = efficiency_score(levels, levels, (1,), correct=False)
    assert (found.value, found.levels, found.time_limit) == (0.0, (0.0,), 2.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0], [1.0], (1,), 1.0), "alpha must be more than 1"),
        (([1.0], [1.0], (1,), math.nan), "alpha"),
        (([1.0], [1.0], (0,), 2.0), "not all 0"),
        (([1.0], [1.0], (-1,), 2.0), "weights >= 0"),
        (([0.0], [1.0], (1,), 2.0), "reference took 0.0 seconds on level 0"),
        (([1.0, 1.0], [1.0], (1, 1), 2.0), "1 levels, the reference 2"),
        (([1.0], [1.0], (1, 1), 2.0), "1 levels for 2 weights"),
        (([1.0], [math.nan], (1,), 2.0), "nan seconds"),
        (([1.0], [-1.0], (1,), 2.0), "-1.0 seconds"),
    ],
)
def test_what_has_no_score_is_refused(arguments: tuple[object, ...], said: str) -> None:
    with pytest.raises(CodealignError, match=said):
        score_levels(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[], [math.nan], [-1.0], [[1.0]], [math.inf]])
def test_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(CodealignError, match="time"):
        hodges_lehmann(times)


def test_a_level_without_tests_is_refused() -> None:
    with pytest.raises(CodealignError, match="at least one test"):
        efficiency_score([[]], [[]], (1,))


def test_the_limit_looks_at_weighted_levels_only() -> None:
    assert time_limit([100.0, 1.0, 3.0], (0, 1, 2), 2.0) == 6.0
