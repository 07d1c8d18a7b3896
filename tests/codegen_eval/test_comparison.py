"""Two results side by side: pairing, figures against their definitions, refusals."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from codegen_eval.comparison import changed_problems, compare, pair, unlike
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.paired import permutation_test
from codegen_eval.metrics.pass_at_k import pass_at_k


def result(seed: int, gain: float, *, problems: int = 60, eff: bool = False) -> dict[str, Any]:
    """A made-up results.json; problem i is solved with chance i/problems + gain."""
    rng = random.Random(seed)
    rows = []
    for index in range(problems):
        c = sum(rng.random() < min(1.0, index / problems + gain) for _ in range(10))
        row: dict[str, Any] = {"task_id": f"t/{index}", "n": 10, "c": c, "slow": rng.randint(0, c)}
        if eff:
            row["eff"] = [round(rng.random(), 3) if i < c else 0.0 for i in range(10)]
        rows.append(row)
    right = sum(row["c"] for row in rows)
    return {
        "benchmark": "b",
        "split": None,
        "temperature": 0.8,
        "samples_per_problem": 10,
        "pass_at_k": {k: {"value": 0.0} for k in ("1", "10")},
        "eff_at_k": {k: {"value": 0.0} for k in ("1", "5")} if eff else None,
        "slow_share": {"value": sum(row["slow"] for row in rows) / right},
        "problems": rows,
    }


def test_problems_are_paired_by_name_whatever_their_order() -> None:
    before, after = result(1, 0.0), result(2, 0.2)
    shuffled = {**after, "problems": list(reversed(after["problems"]))}
    row = compare(before, shuffled)["pass@1"]
    assert row == compare(before, after)["pass@1"]
    shares = [np.array([p["c"] / 10 for p in side["problems"]]) for side in (before, after)]
    assert row["difference"] == pytest.approx((shares[1] - shares[0]).mean())
    assert row["before"] == pytest.approx(shares[0].mean())
    assert row["after"] == pytest.approx(shares[1].mean())
    assert 0.05 < row["low"] < row["difference"] < row["high"] < 0.3
    assert row["higher"] == int((shares[1] > shares[0]).sum())
    assert row["lower"] == int((shares[1] < shares[0]).sum())
    assert row["higher"] + row["lower"] + row["same"] == row["problems"] == 60
    assert row["p_value"] == permutation_test(*shares) < 0.01


def test_every_figure_that_both_have_is_compared() -> None:
    before, after = result(1, 0.0, eff=True), result(2, 0.2, eff=True)
    assert list(compare(before, after)) == ["pass@1", "pass@10", "eff@1", "eff@5", "slow_share"]
    assert list(compare(before, {**after, "eff_at_k": {"5": {}}, "slow_share": None})) == [
        "pass@1",
        "pass@10",
        "eff@5",
    ]
    assert list(compare(before, {**after, "pass_at_k": {"10": {}}, "eff_at_k": None})) == [
        "pass@10",
        "slow_share",
    ]


def test_eff_is_the_mean_of_the_samples_scores_and_leaves_problems_without_scores_out() -> None:
    before, after = result(1, 0.0, eff=True), result(2, 0.2, eff=True)
    before["problems"][3]["eff"] = None
    row = compare(before, after)["eff@1"]
    kept = [index for index in range(60) if index != 3]
    means = [np.mean([np.mean(side["problems"][i]["eff"]) for i in kept]) for side in (before, after)]
    assert (row["before"], row["after"]) == pytest.approx(means)
    assert row["problems"] == 59


def test_eff_with_scores_of_right_and_wrong_is_pass_at_k() -> None:
    sides = [result(1, 0.0, eff=True), result(2, 0.1, eff=True)]
    for side in sides:
        side["pass_at_k"] = side["eff_at_k"]
        for problem in side["problems"]:
            problem["eff"] = [1.0] * problem["c"] + [0.0] * (10 - problem["c"])
    found = compare(*sides)
    for key in ("before", "difference", "low", "high", "p_value"):
        assert found["eff@5"][key] == pytest.approx(found["pass@5"][key])


def test_the_slow_share_is_compared_as_a_ratio() -> None:
    before, after = result(1, 0.0), result(2, 0.2)
    row = compare(before, after)["slow_share"]
    assert row["before"] == pytest.approx(before["slow_share"]["value"])
    assert row["after"] == pytest.approx(after["slow_share"]["value"])
    assert row["low"] < 0 < row["high"] and row["p_value"] > 0.05
    # Half the width of the interval is about 1.96 standard errors, the detectable difference 2.80.
    assert row["detectable"] == pytest.approx(2.80 / 1.96 * (row["high"] - row["low"]) / 2, rel=0.15)


def test_equal_runs_do_not_differ_and_have_no_power_to_speak_of() -> None:
    row = compare(result(1, 0.0), result(1, 0.0))["pass@10"]
    assert row["difference"] == row["low"] == row["high"] == 0.0
    assert (row["p_value"], row["same"], row["detectable"], row["needed"]) == (1.0, 60, None, None)


def test_problems_of_other_numbers_of_samples_may_be_compared() -> None:
    before, after = result(1, 0.0), result(2, 0.2)
    for problem in after["problems"]:
        problem["n"], problem["c"] = 20, problem["c"] * 2
    row = compare(before, after)["pass@10"]
    expected = pass_at_k([20] * 60, [p["c"] for p in after["problems"]], 10).mean()
    assert row["after"] == pytest.approx(expected)
    assert unlike(before, {**after, "samples_per_problem": 20}) == [("samples_per_problem", 10, 20)]


def test_other_benchmarks_splits_and_problems_are_refused_by_name() -> None:
    one = result(1, 0.0)
    with pytest.raises(CodealignError, match="benchmark is 'b' in one run, 'c' in the other"):
        compare(one, {**one, "benchmark": "c"}, common=True)
    with pytest.raises(CodealignError, match=r"split is None in one run, 'test'.*--common"):
        compare(one, {**one, "split": "test"})
    with pytest.raises(
        CodealignError, match=r"2 problems are in one run only: 2 \('t/58', 't/59'\) in the first"
    ):
        compare(one, {**one, "problems": one["problems"][:-2]})
    with pytest.raises(CodealignError, match=r"4 \('t/56', 't/57', 't/58', \.\.\.\) in the second"):
        compare({**one, "problems": one["problems"][:-4]}, one)
    with pytest.raises(CodealignError, match="no problem in common"):
        compare(one, {**one, "problems": [{"task_id": "x", "n": 10, "c": 1}]}, common=True)


def test_common_problems_are_compared_when_asked_for() -> None:
    before, after = result(1, 0.0), result(2, 0.2)
    fewer = {
        **after,
        "split": "other",
        "problems": [*after["problems"][:40], {"task_id": "x", "n": 10, "c": 0}],
    }
    pairs = pair(before, fewer, common=True)
    assert (len(pairs.before), pairs.only_before, pairs.only_after) == (40, 20, 1)
    row = compare(before, fewer, common=True)["pass@1"]
    assert row["problems"] == 40
    assert row["before"] == pytest.approx(np.mean([p["c"] / 10 for p in before["problems"][:40]]))


def test_a_side_that_does_not_name_its_benchmark_is_not_refused_for_it() -> None:
    one = result(1, 0.0)
    foreign = {key: value for key, value in one.items() if key not in ("benchmark", "split", "temperature")}
    assert compare(one, foreign)["pass@1"]["difference"] == 0
    assert unlike(one, foreign) == []


def test_the_most_changed_problems_come_first_and_unchanged_ones_not_at_all() -> None:
    before = [{"task_id": name, "n": 10, "c": c} for name, c in (("a", 5), ("b", 1), ("c", 9), ("d", 2))]
    after = [{"task_id": name, "n": 20, "c": c} for name, c in (("a", 10), ("b", 4), ("c", 4), ("d", 6))]
    rows = changed_problems(before, after)
    assert [(row["task_id"], round(row["difference"], 3)) for row in rows] == [
        ("c", -0.7),
        ("b", 0.1),
        ("d", 0.1),
    ]


def test_the_seed_decides() -> None:
    before, after = result(1, 0.0), result(2, 0.02)
    assert compare(before, after, seed=1) == compare(before, after, seed=1)
    assert compare(before, after, seed=1) != compare(before, after, seed=2)
