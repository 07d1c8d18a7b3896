"""Bootstrap intervals: against scipy, by their coverage, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.statistics import (
    Method,
    bootstrap_mean,
    bootstrap_ratio,
    paired_difference,
    paired_ratio_difference,
)


@pytest.mark.parametrize(("method", "theirs"), [("bca", "BCa"), ("percentile", "percentile")])
def test_equals_scipy(method: Method, theirs: str) -> None:
    values = np.random.default_rng(1).beta(0.5, 0.5, 60)
    ours = bootstrap_mean(values, resamples=50_000, method=method)
    ref = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=50_000, method=theirs, rng=2
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((ref.low, ref.high), abs=0.003)


def test_ratio_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    right = rng.integers(0, 11, 80).astype(float)
    slow = rng.binomial(right.astype(int), 0.3).astype(float)
    ours = bootstrap_ratio(slow, right, resamples=30_000)

    def ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
        return top.sum(axis) / bottom.sum(axis)

    ref = scipy.stats.bootstrap(
        (slow, right), ratio, paired=True, n_resamples=30_000, method="BCa", rng=2, vectorized=True
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((ref.low, ref.high), abs=0.004)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_interval_covers_as_often_as_it_says(method: Method) -> None:
    rng = np.random.default_rng(4)
    truth, hits, trials = 0.5, 0, 400
    for trial in range(trials):
        skill = rng.beta(1, 1, 100)
        interval = bootstrap_mean(rng.binomial(10, skill) / 10, resamples=1000, seed=trial, method=method)
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / trials <= 0.98


def test_paired_difference_is_narrower_than_the_two_intervals() -> None:
    rng = np.random.default_rng(5)
    before = rng.beta(0.5, 0.5, 150)
    after = np.clip(before + rng.normal(0.05, 0.05, 150), 0, 1)
    difference = paired_difference(before, after)
    alone = bootstrap_mean(after)
    assert 0 < difference.low < difference.value < difference.high
    assert difference.high - difference.low < 0.3 * (alone.high - alone.low)
    assert difference.value == pytest.approx(after.mean() - before.mean())


def test_paired_difference_covers_a_true_gain_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    gain, hits, trials = 0.1, 0, 300
    for trial in range(trials):
        skill = rng.uniform(0, 1 - gain, 80)
        before, after = rng.binomial(10, skill) / 10, rng.binomial(10, skill + gain) / 10
        interval = paired_difference(before, after, resamples=1000, seed=trial)
        hits += interval.low <= gain <= interval.high
    assert 0.91 <= hits / trials <= 0.98


def test_paired_ratio_difference_covers_no_change() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for trial in range(200):
        share = rng.beta(1, 3, 80)
        right = rng.integers(1, 11, (2, 80))
        slow = rng.binomial(right, share)
        interval = paired_ratio_difference(
            (slow[0], right[0]), (slow[1], right[1]), resamples=600, seed=trial
        )
        hits += interval.low <= 0 <= interval.high
    assert hits / 200 >= 0.9


def test_the_seed_decides_and_the_order_of_resampling_does_not_leak() -> None:
    values = np.random.default_rng(7).random(40)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_without_spread_the_interval_has_no_width() -> None:
    interval = bootstrap_mean([0.25] * 5)
    assert interval.to_json() == {"value": 0.25, "low": 0.25, "high": 0.25}
    assert bootstrap_mean([0.5]).low == 0.5


def test_a_ratio_that_only_one_problem_carries_still_has_an_interval() -> None:
    interval = bootstrap_ratio([0, 0, 3], [0, 0, 4])
    assert (interval.value, interval.low, interval.high) == (0.75, 0.75, 0.75)


def test_bounds_stay_inside_the_data() -> None:
    interval = bootstrap_mean([0.0] * 30 + [1.0])
    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, float("nan")], [float("inf")]])
def test_bad_values_are_refused(values: list[object]) -> None:
    with pytest.raises(CodealignError):
        bootstrap_mean(values)  # type: ignore[arg-type]


def test_bad_pairs_levels_and_ratios_are_refused() -> None:
    with pytest.raises(CodealignError, match="same problems, got 1 and 2"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(CodealignError, match="between 0 and 1"):
        bootstrap_mean([1.0, 2.0], level=95)
    with pytest.raises(CodealignError, match="not all 0"):
        bootstrap_ratio([0.0], [0.0])
    with pytest.raises(CodealignError, match="sum to 0"):
        paired_ratio_difference(([0.0], [0.0]), ([0.0], [1.0]))
    with pytest.raises(CodealignError, match="same problems on both sides"):
        paired_ratio_difference(([0.0], [1.0]), ([0.0, 1.0], [1.0, 1.0]))
    with pytest.raises(CodealignError, match="at least one bootstrap sample"):
        bootstrap_mean([1.0, 2.0], resamples=0)


def test_the_draws_that_are_kept_are_those_of_their_seed_and_number() -> None:
    values = np.random.default_rng(5).beta(0.5, 0.5, 40)

    def ends(**given: int) -> tuple[float, float]:
        found = bootstrap_mean(values, **{"resamples": 500, "seed": 0, **given})
        return found.low, found.high

    first = ends()
    others = [ends(seed=1), ends(resamples=600)]
    assert first not in others and others[0] != others[1]
    assert ends() == first
