"""The permutation test against enumeration by hand and scipy; counts and power against simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from codegen_eval.errors import CodealignError
from codegen_eval.metrics import paired
from codegen_eval.metrics.paired import Changes, changes, permutation_test, power, ratio_permutation_test


def enumerated(before: np.ndarray, after: np.ndarray) -> float:
    """The p value by its definition: every assignment of signs, no cleverness."""
    moved = after - before
    seen = abs(moved.sum())
    signs = itertools.product((1, -1), repeat=len(moved))
    far = [abs(sum(s * d for s, d in zip(row, moved, strict=True))) >= seen - 1e-9 for row in signs]
    return sum(far) / len(far)


@pytest.mark.parametrize("seed", range(6))
def test_few_problems_are_enumerated_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.integers(0, 11, (2, 9)) / 10
    assert permutation_test(before, after) == pytest.approx(enumerated(before, after), abs=1e-12)


def test_by_hand() -> None:
    # All of three problems rose by as much: of 8 sign patterns only +++ and --- are as far from 0.
    assert permutation_test([0.0, 0.1, 0.2], [0.5, 0.6, 0.7]) == 0.25
    # Differences 3, 1: sums 4, 2, -2, -4.
    assert permutation_test([0, 0], [3, 1]) == 0.5
    assert permutation_test([0, 0], [3, -1]) == 1.0


@pytest.mark.parametrize("problems", [8, 40])
def test_equals_scipy(problems: int) -> None:
    rng = np.random.default_rng(problems)
    before = rng.beta(0.5, 0.5, problems)
    after = np.clip(before + rng.normal(0.05, 0.2, problems), 0, 1)
    ref = scipy.stats.permutation_test(
        (before, after),
        lambda x, y, axis: (y - x).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if problems < 10 else 20_000,
        rng=1,
    )
    ours = permutation_test(before, after, resamples=20_000)
    assert ours == pytest.approx(ref.pvalue, abs=1e-12 if problems < 10 else 0.015)


def test_drawn_swaps_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    before = rng.random(14)
    after = before + rng.normal(0.1, 0.2, 14)
    exact = permutation_test(before, after)
    monkeypatch.setattr(paired, "EXACT_PROBLEMS", 0)
    assert permutation_test(before, after, resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_problems_that_did_not_change_do_not_prevent_enumeration() -> None:
    before = np.zeros(500)
    after = before.copy()
    after[:6] = 1.0
    assert permutation_test(before, after, resamples=1) == 2 / 2**6


def test_a_drawn_p_value_is_never_zero() -> None:
    assert permutation_test(np.zeros(60), np.ones(60), resamples=99) == 0.01


def test_rounding_does_not_hide_ties() -> None:
    # The differences sum to 0 but for the last digit, so every swap is as far from 0.
    before = np.array([0.1, 0.2, 0.3, 0.7, 0.9, 0.4]) / 3
    after = before[::-1].copy()
    assert permutation_test(before, after) == 1.0
    assert permutation_test([0.1] * 10, [0.4] * 7 + [0.3, 0.2, 0.1]) == pytest.approx(
        enumerated(np.array([0.1] * 10), np.array([0.4] * 7 + [0.3, 0.2, 0.1])), abs=1e-12
    )


def test_equal_sides_and_swapped_sides() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random((2, 30))
    assert permutation_test(a, a) == 1.0
    assert permutation_test(a, b) == pytest.approx(permutation_test(b, a), abs=0.02)


def test_the_seed_decides() -> None:
    a, b = np.random.default_rng(7).random((2, 50))
    assert permutation_test(a, b, seed=1) == permutation_test(a, b, seed=1)
    assert permutation_test(a, b, seed=1) != permutation_test(a, b, seed=2)


def test_without_a_difference_five_per_cent_are_called_different() -> None:
    rng = np.random.default_rng(8)
    trials = 400
    skill = rng.beta(1, 1, 60)
    drawn = rng.binomial(10, skill, (trials, 2, 60)) / 10
    found = sum(permutation_test(a, b, resamples=400, seed=i) <= 0.05 for i, (a, b) in enumerate(drawn))
    # Binomial with mean 20, standard deviation 4.4.
    assert 8 <= found <= 34


def test_the_ratio_test_equals_enumeration() -> None:
    rng = np.random.default_rng(9)
    right = rng.integers(1, 11, (2, 8)).astype(float)
    slow = rng.binomial(right.astype(int), 0.4).astype(float)
    seen = abs(slow[1].sum() / right[1].sum() - slow[0].sum() / right[0].sum())
    far = 0
    for swap in itertools.product((0, 1), repeat=8):
        index = np.array(swap)
        columns = np.arange(8)
        first = slow[index, columns].sum() / right[index, columns].sum()
        second = slow[1 - index, columns].sum() / right[1 - index, columns].sum()
        far += abs(second - first) >= seen - 1e-12
    ours = ratio_permutation_test((slow[0], right[0]), (slow[1], right[1]))
    assert ours == pytest.approx(far / 256, abs=1e-12)


def test_a_swap_that_empties_a_side_counts_against_a_difference() -> None:
    # Swapped, side A has no right program at all: nothing can be said, so it must not make p smaller.
    assert ratio_permutation_test(([1, 0], [2, 0]), ([0, 1], [0, 1])) == 1.0


def test_changes_are_counted() -> None:
    assert changes([0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 0.2, 1.0]) == Changes(1, 1, 2)
    assert changes([0.1 + 0.2], [0.3]) == Changes(0, 0, 1)


def test_the_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(10)
    problems, spread = 60, 0.3
    hint = power(rng.normal(0, spread, 20_000))
    assert hint is not None
    effect = hint.detectable * np.sqrt(20_000 / problems)
    found = sum(
        permutation_test(np.zeros(problems), rng.normal(effect, spread, problems), resamples=300, seed=i)
        <= 0.05
        for i in range(400)
    )
    assert 0.73 <= found / 400 <= 0.87


def test_the_needed_number_of_problems_is_that_of_the_formula() -> None:
    differences = np.array([0.5, -0.3, 0.2, 0.0])
    hint = power(differences)
    assert hint is not None
    # (1.959964 + 0.841621)^2 s^2 / mean^2 with s = 0.33665, mean 0.1: 88.95.
    assert hint.needed == 89
    assert hint.detectable == pytest.approx(2.801585 * 0.336650 / 2, abs=1e-5)


def test_where_nothing_can_be_said_of_power_there_is_none() -> None:
    assert power([0.5]) is None
    assert power([0.5, 0.5]) is None
    hint = power([0.5, -0.5])
    assert hint is not None and hint.needed is None


def test_bad_input_is_refused() -> None:
    with pytest.raises(CodealignError, match="same problems, got 1 and 2"):
        permutation_test([1.0], [1.0, 2.0])
    with pytest.raises(CodealignError, match="no finite value"):
        permutation_test([float("nan")], [1.0])
    with pytest.raises(CodealignError, match="at least one resample"):
        permutation_test(np.zeros(40), np.ones(40), resamples=0)
    with pytest.raises(CodealignError, match="sum to 0"):
        ratio_permutation_test(([0.0], [0.0]), ([0.0], [1.0]))
    with pytest.raises(CodealignError, match="between 0 and 1"):
        power([0.1, 0.2], wanted=80)
