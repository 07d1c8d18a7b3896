"""Efficiency pairs: larger inputs, the dead zone, and what does not agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.efficiency import efficiency_pairs, fast_and_slow, race, time_races, total_seconds
from codegen_eval.pairs.enlarge import enlarge, enlarged_calls
from codegen_eval.pairs.job import efficiency_quota
from codegen_eval.pairs.options import PairOptions
from codegen_eval.pairs.records import Pair, read_ranking_row
from codegen_eval.ranking.rows import MatrixRow, RankOptions, ranking_row
from tests.codegen_eval.made_up_runs import FakeSandbox

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers(0, 9) | st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(values, st.sampled_from(["repeat", "continue"]))
def test_enlarged_values_keep_their_type_and_never_shrink(value: object, growth: str) -> None:
    larger = enlarge(value, 40, growth)  # type: ignore[arg-type]
    assert type(larger) is type(value)
    if isinstance(value, list | str | tuple):
        assert len(larger) == 40 * len(value)
    if isinstance(value, dict):
        assert set(value) <= set(larger)


def test_enlarged_values_by_kind() -> None:
    assert enlarge(3, 40) == 120 and enlarge(0.5, 4) == 2.0 and enlarge(True, 40) is True
    assert enlarge("ab", 3) == "ababab"
    assert enlarge([1, 3, 2], 2) == [1, 3, 2, 1, 3, 2]
    assert enlarge([1, 2, 3], 2) == [1, 1, 2, 2, 3, 3]  # sorted stays sorted
    assert enlarge([1, 3, 2], 2, "continue") == [1, 3, 2, 4, 6, 5]
    assert enlarge({"a": 1, "b": 2}, 2) == {"a": 1, "b": 2, "a1": 1, "b1": 2}
    assert enlarge({1, 2}, 3) == {1, 2, 3, 4, 5, 6}
    assert enlarge([[1, 2], [0]], 2) == [[1, 2], [0], [1, 2], [0]]


def test_inputs_that_do_not_grow_or_grow_too_big_are_left_out() -> None:
    assert enlarged_calls([([],), (None,), ("x" * 10_000,), (0,)], 40, 9) == []
    assert enlarged_calls([(2,), (2,), ("a",)], 40, 9) == [(80,), ("a" * 40,)]
    assert len(enlarged_calls([(i,) for i in range(1, 50)], 40, 6)) == 6


def test_between_fast_and_slow_lies_a_dead_zone() -> None:
    seconds = np.array([0.010, 0.059, 0.061, 0.119, 0.121, math.inf, math.nan])
    assert fast_and_slow(seconds, 2) == ([0, 1], [4, 5])
    assert fast_and_slow(np.array([math.inf, math.nan]), 2) == ([], [])
    # All far below what can be measured: nobody is slow.
    assert fast_and_slow(np.array([1e-6, 2e-5, 4e-4]), 2) == ([0, 1, 2], [])


def test_calls_that_most_programs_fail_do_not_count_and_failing_programs_drop_out() -> None:
    times = np.array([[1.0, math.nan, 1.0], [2.0, math.nan, math.inf], [3.0, 1.0, math.nan]])
    seconds, calls = total_seconds(times)
    assert calls == [0, 2]
    assert seconds[0] == 2.0 and math.isinf(seconds[1]) and math.isnan(seconds[2])
    assert total_seconds(np.full((2, 2), math.nan))[1] == []


def made(codes: list[str], tests: list[str], *, passed: np.ndarray | None = None) -> MatrixRow:
    shape = (len(codes), len(tests))
    return MatrixRow(
        task_id="t",
        entry_point="f",
        codes=tuple(codes),
        tests=tuple(tests),
        sources=("own",) * len(tests),
        passed=np.ones(shape, dtype=bool) if passed is None else passed,
        code_counts=np.ones(shape[0]),
        test_counts=np.ones(shape[1]),
        unloadable=np.zeros(shape[0], dtype=bool),
    )


def timed(row: MatrixRow) -> tuple[dict[str, object] | None, Counter[str]]:
    funnel: Counter[str] = Counter()
    found = race(row, read_ranking_row(ranking_row(row, RankOptions("b4")), row), funnel)
    return (next(time_races([found], FakeSandbox(), 3)) if found else None), funnel


def pairs_of(row: MatrixRow, timing: Mapping[str, Any], count: int, funnel: Counter[str]) -> list[Pair]:
    ranked = read_ranking_row(ranking_row(row, RankOptions("b4")), row)
    return efficiency_pairs(row, ranked, timing, PairOptions(count), funnel)


FAST, SLOW = "def f(x): return 2 * x", "def f(x): return x + x  # seconds: 0.5"
FAIL = "def f(x): return x * 2  # seconds: nan"
ENDLESS = "def f(x): return x + x + 0  # seconds: inf"
MIDDLE = "def f(x): return 1 * x * 2  # seconds: 0.009"
LIAR = "def f(x): return 2 * x if x < 50 else 0  # seconds: 0.9"


def test_fast_is_chosen_slow_rejected_and_a_wrong_answer_on_large_inputs_is_left_out() -> None:
    row = made([FAST, SLOW, FAIL, ENDLESS, MIDDLE, LIAR], ["assert f(2) == 4", "assert f(1) == 2"])
    timing, _ = timed(row)
    assert timing is not None and timing["disagreeing"] == [5]
    assert timing["seconds"] == [0.002, 1.0, None, "inf", 0.018, 1.8]
    funnel: Counter[str] = Counter()
    pairs = pairs_of(row, timing, 9, funnel)
    assert {(p.chosen, p.rejected) for p in pairs} == {(0, 1), (0, 3)}
    assert all(p.kind == "efficiency" and p.confidence == 1.0 and p.margin == 0.0 for p in pairs)
    assert funnel["efficiency_disagreeing_programs"] == 1
    assert len(pairs_of(row, timing, 1, Counter())) == 1


def test_races_need_two_programs_that_pass_something_and_an_input_that_grows() -> None:
    assert timed(made([FAST, FAST + "  # same"], ["assert f(1) == 2"]))[1] == {"efficiency_one_program": 1}
    assert timed(made([FAST, SLOW], ["assert f(0) == 0"]))[1] == {"efficiency_no_input": 1}
    assert timed(made([FAST, SLOW], ["assert f(x=1) == 2"]))[1] == {"efficiency_no_input": 1}
    nothing = np.zeros((2, 1), dtype=bool)
    row = made([FAST, SLOW], ["assert f(1) == 2"], passed=nothing)
    assert timed(row)[1] == {"efficiency_best_passes_nothing": 1}


def test_quota_makes_up_the_share_and_never_exceeds_what_there_is() -> None:
    assert efficiency_quota(80, 100, 0.2) == 20
    assert efficiency_quota(80, 5, 0.2) == 5
    assert efficiency_quota(80, 100, 0.0) == 0
    assert efficiency_quota(0, 100, 0.5) == 0


def test_draws_follow_the_weights_without_repetition() -> None:
    rng = np.random.default_rng(0)
    first = Counter(draw([1.0, 9.0, 90.0], 1, rng)[0] for _ in range(3000))
    # Shares .01, .09, .90; three standard errors of 3,000 draws are below .02.
    assert first[2] / 3000 == pytest.approx(0.9, abs=0.02) and first[1] / 3000 == pytest.approx(
        0.09, abs=0.02
    )
    assert sorted(draw([1.0, 2.0, 3.0], 9, rng)) == [0, 1, 2]
    assert draw([], 3, rng) == []


def test_raw_times_have_no_way_into_the_pairs() -> None:
    source = (Path(__file__).parents[3] / "codegen_eval/pairs/job.py").read_text()
    assert "seconds" not in source
