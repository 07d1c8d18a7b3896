"""Efficiency figures against numbers worked out by hand and against their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.efficiency import (
    Overhead,
    best_speedups,
    beyond,
    beyond_at_k,
    dps,
    effibench_scores,
    evalperf_mean,
    overhead,
    pie_scores,
)

INF, NAN = math.inf, math.nan
# Four pairs of 10 s, two samples each: 2x then wrong; slower then 4x; both wrong; 1.05x and a right one that
# was not timed.
SOURCE = [10.0, 10.0, 10.0, 10.0]
SAMPLES = [[5.0, 1.0], [20.0, 2.5], [1.0, 1.0], [10 / 1.05, INF]]
CORRECT = [[True, False], [True, True], [False, False], [True, True]]


def test_speed_ups_are_those_of_the_fastest_right_sample_among_the_first_k() -> None:
    assert best_speedups(SOURCE, SAMPLES, CORRECT, 1) == pytest.approx([2, 0.5, 0, 1.05])
    assert best_speedups(SOURCE, SAMPLES, CORRECT, 2) == pytest.approx([2, 4, 0, 1.05])


def test_pie_scores_by_hand() -> None:
    one = pie_scores(SOURCE, SAMPLES, CORRECT, 1)
    assert one.percent_correct == 75 and one.percent_optimised == 25
    assert one.speedup_floor_1 == pytest.approx((2 + 1 + 1 + 1.05) / 4)
    assert one.speedup_improved == pytest.approx((2 + 1.05) / 2)
    assert one.runtime_reduction == pytest.approx((0.5 + (1 - 1 / 1.05)) / 2)
    two = pie_scores(SOURCE, SAMPLES, CORRECT, 2)
    assert two.percent_optimised == 50 and two.speedup_floor_1 == pytest.approx((2 + 4 + 1 + 1.05) / 4)


def test_a_speed_up_of_just_the_threshold_is_optimised_and_the_first_releases_threshold_is_higher() -> None:
    assert pie_scores([1.1], [[1.0]], [[True]]).percent_optimised == 100
    assert pie_scores([1.1], [[1.0]], [[True]], threshold=1 / 0.9).percent_optimised == 0


def test_where_nothing_is_right_nothing_improved_and_no_mean_is_made_up() -> None:
    scores = pie_scores([1.0], [[NAN]], [[False]])
    assert (scores.percent_correct, scores.percent_optimised, scores.speedup_floor_1) == (0, 0, 1)
    assert scores.speedup_improved is None and scores.runtime_reduction is None


def test_a_right_sample_without_a_time_is_right_but_no_faster() -> None:
    scores = pie_scores([1.0], [[NAN]], [[True]])
    assert (scores.percent_correct, scores.percent_optimised, scores.speedup_floor_1) == (100, 0, 1)


PAIRS = st.lists(
    st.tuples(
        st.floats(0.01, 100), st.lists(st.tuples(st.floats(0.01, 100), st.booleans()), min_size=3, max_size=3)
    ),
    min_size=1,
    max_size=6,
)


@given(PAIRS)
def test_more_samples_never_lower_a_pie_score(pairs: list[tuple[float, list[tuple[float, bool]]]]) -> None:
    source = [old for old, _ in pairs]
    samples, correct = ([[pair[part] for pair in found] for _, found in pairs] for part in (0, 1))
    scores = [pie_scores(source, samples, correct, k) for k in (1, 2, 3)]
    for name in ("percent_correct", "percent_optimised", "speedup_floor_1"):
        values = [getattr(score, name) for score in scores]
        assert values == sorted(values)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (([1.0], [[1.0]], [[True]], 2), "k=2"),
        (([1.0], [[1.0]], [[True]], 0), "k=0"),
        (([0.0], [[1.0]], [[True]], 1), "pair 0"),
        (([INF], [[1.0]], [[True]], 1), "pair 0"),
        (([1.0], [[0.0]], [[True]], 1), "0 or less"),
        (([1.0], [[1.0]], [[True, False]], 1), "got"),
        (([], np.zeros((0, 1)), np.zeros((0, 1), bool), 1), "got"),
        (([1.0, 2.0], [[1.0]], [[True]], 1), "got"),
    ],
)
def test_costs_that_say_nothing_are_refused(arguments: Any, why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        pie_scores(*arguments)


@pytest.mark.parametrize("threshold", [1.0, 0.5, NAN, INF])
def test_a_threshold_is_a_speed_up(threshold: float) -> None:
    with pytest.raises(CodealignError, match="threshold"):
        pie_scores([1.0], [[1.0]], [[True]], threshold=threshold)


def test_beyond_by_hand() -> None:
    values = beyond([1.0, 2.0, 3.0, 0.5, 9.0, 1.0, INF], [True] * 5 + [False, True], [1.0, 3.0, 2.0])
    assert values is not None and values.tolist() == [1, 0.5, 0, 1, 0, 0, 0]


def test_the_released_beyond_clips_seconds_so_it_saturates_and_leaves_the_unit_interval() -> None:
    slow = beyond([1.0, 2.0, 2.5, 3.0], [True] * 4, [1.0, 3.0], released=True)
    assert slow is not None and slow.tolist() == [0.5, 0.5, 0.25, 0]  # one second at most, of two
    fast = beyond([0.05, 0.1, 0.2], [True] * 3, [0.1, 0.2], released=True)
    assert fast is not None and fast == pytest.approx([1.5, 1, 0])  # faster than the fastest: over 1


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6), st.floats(0.001, 2), st.booleans())
def test_both_beyonds_agree_between_references_that_lie_within_a_second(
    references: list[float], time: float, right: bool
) -> None:
    values = beyond([time], [right], references)
    if max(references) == min(references):
        assert values is None
        return
    assert values is not None and 0 <= values[0] <= 1
    if time >= min(references):
        released = beyond([time], [right], references, released=True)
        assert released is not None and released[0] == pytest.approx(values[0])


def test_failed_references_are_dropped_and_one_that_is_left_says_nothing() -> None:
    values = beyond([2.0], [True], [1.0, INF, 3.0, NAN])
    assert values is not None and values.tolist() == [0.5]
    assert beyond([2.0], [True], [1.0, INF]) is None
    assert beyond([2.0], [True], [1.0, 1.0]) is None
    assert beyond([2.0], [True], [INF]) is None and beyond([2.0], [True], []) is None


def test_beyond_at_k_is_the_mean_of_the_first_k_and_counts_what_it_leaves_out() -> None:
    found = beyond_at_k([[1.0, 0.0], None, [0.5, 0.5]], 1)
    assert (found.value, found.tasks, found.left_out) == (0.75, 2, 1)
    assert beyond_at_k([[1.0, 0.0], [0.5, 0.5]], 2).value == 0.5
    with pytest.raises(CodealignError, match="at least 3 samples, task 0 has 2"):
        beyond_at_k([[1.0, 0.0]], 3)
    with pytest.raises(CodealignError, match="none of the 1 tasks"):
        beyond_at_k([None], 1)
    with pytest.raises(CodealignError, match="Beyond@0"):
        beyond_at_k([[1.0]], 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (([1.0], [True, False], [1.0]), "one mark a sample"),
        (([0.0], [True], [1.0, 2.0]), "0 s or less"),
        (([1.0], [True], [0.0, 2.0]), "0 s or less"),
        (([1.0], [True], [[1.0]]), "one time"),
    ],
)
def test_times_that_are_none_are_refused(arguments: Any, why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        beyond(*arguments)


def test_dps_by_hand() -> None:
    score, norm = dps([50, 100, 150, 300, 301, INF, NAN], [300, 200, 100], [40.0, 70.0, 100.0])
    assert score.tolist() == [100, 100, 70, 40, 0, 0, 0]
    assert norm == pytest.approx([100, 100, 200 / 3, 100 / 3, 0, 0, 0])


def dps_by_loop(cost: float, references: list[float], scores: list[float]) -> tuple[float, float]:
    """From the fastest cluster to the slowest, as the released evaluator looks."""
    for j in range(len(references) - 1, -1, -1):
        if cost <= references[j]:
            return scores[j], 100 * (j + 1) / len(references)
    return 0, 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.lists(st.integers(1, 60), max_size=6))
def test_dps_equals_the_search_from_the_fastest_even_where_references_are_out_of_order(
    references: list[int], costs: list[int]
) -> None:
    scores = [10.0 * (i + 1) for i in range(len(references))]
    found = list(zip(*dps(costs, references, scores), strict=True))
    wanted = [dps_by_loop(cost, [float(r) for r in references], scores) for cost in costs]
    assert np.array(found).reshape(-1) == pytest.approx(np.array(wanted).reshape(-1))


def test_dps_is_over_tasks_with_enough_right_samples() -> None:
    found = evalperf_mean([[100.0] * 10, [0.0] * 9, [50.0] * 12])
    assert (found.value, found.tasks, found.left_out) == (75, 2, 1)
    assert evalperf_mean([[100.0], [0.0]], min_correct=1).value == 50
    with pytest.raises(CodealignError, match="none of the 1"):
        evalperf_mean([[1.0]])
    with pytest.raises(CodealignError, match="min_correct"):
        evalperf_mean([[1.0]], min_correct=0)


@pytest.mark.parametrize(
    "arguments", [([1.0], [], []), ([1.0], [1.0], [1.0, 2.0]), ([1.0], [INF], [1.0]), ([1.0], [0.0], [1.0])]
)
def test_references_that_cannot_be_matched_are_refused(arguments: Any) -> None:
    with pytest.raises(CodealignError, match="DPS"):
        dps(*arguments)


def test_overhead_of_a_trace_by_hand() -> None:
    assert overhead([0.0, 1.0, 3.0], [10.0, 30.0, 10.0]) == Overhead(3.0, 30.0, 20.0 + 40.0)
    assert overhead([5.0], [7.0]) == Overhead(0.0, 7.0, 0.0)


@pytest.mark.parametrize(
    ("stamps", "memory"),
    [([], []), ([0.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0]), ([0.0], [-1.0]), ([NAN], [1.0])],
)
def test_a_trace_that_is_none_is_refused(stamps: list[float], memory: list[float]) -> None:
    with pytest.raises(CodealignError, match="trace"):
        overhead(stamps, memory)


def test_effibench_scores_are_over_tasks_where_both_ran_and_both_ratios_are_given() -> None:
    programs = [Overhead(2.0, 100.0, 200.0), None, Overhead(9.0, 50.0, 400.0), Overhead(1.0, 1.0, 1.0)]
    canonical = [Overhead(1.0, 50.0, 50.0), Overhead(1.0, 1.0, 1.0), Overhead(3.0, 50.0, 150.0), None]
    scores = effibench_scores(programs, canonical)
    assert (scores.tasks, scores.left_out) == (2, 2)
    assert (scores.time.mean, scores.time.ratio_of_totals, scores.time.mean_of_ratios) == (5.5, 11 / 4, 2.5)
    assert (scores.peak.mean, scores.peak.ratio_of_totals, scores.peak.mean_of_ratios) == (75, 1.5, 1.5)
    assert scores.integral.mean == 300 and scores.integral.ratio_of_totals == 3
    assert scores.integral.mean_of_ratios == pytest.approx((4 + 400 / 150) / 2)


def test_effibench_needs_pairs_and_canonical_figures_above_zero() -> None:
    run = Overhead(1.0, 1.0, 1.0)
    with pytest.raises(CodealignError, match="1 programs but 0"):
        effibench_scores([run], [])
    with pytest.raises(CodealignError, match="no task"):
        effibench_scores([run], [None])
    with pytest.raises(CodealignError, match="time of canonical program 1 is 0"):
        effibench_scores([run, run], [run, Overhead(0.0, 1.0, 0.0)])
