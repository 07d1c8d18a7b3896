"""The execution reward: right above wrong, speed within bounds, nothing where the sandbox broke."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest

from alignment.rewards.execution import PRESETS, STATUSES, ExecutionReward, execution_reward
from codegen_eval.errors import CodealignError


@pytest.mark.parametrize("preset", PRESETS)
def test_any_right_program_is_worth_more_than_any_wrong_one(preset: str) -> None:
    table = PRESETS[preset]
    right = [execution_reward(table, "passed", 5, 5, t, 1.0) for t in (1e-6, 1.0, 1e6)]
    wrong = [execution_reward(table, status, 4, 5) for status in STATUSES if status != "passed"]
    assert min(right) > max(wrong)  # type: ignore[type-var]


def test_a_table_that_could_prefer_a_wrong_program_is_refused() -> None:
    ExecutionReward(partial_credit=0.8, efficiency_weight=0.5)
    for options in (
        {"partial_credit": 0.81, "efficiency_weight": 0.5},
        {"efficiency_weight": 2.0},
        {"timeout": 1.0},
    ):
        with pytest.raises(CodealignError, match="slow right program"):
            ExecutionReward(**options)
    with pytest.raises(CodealignError, match="finite"):
        ExecutionReward(passed=math.nan)


def test_a_broken_sandbox_is_no_reward_at_all() -> None:
    assert execution_reward(PRESETS["coderl"], "infra_error", 0, 5) is None


def test_speed_counts_symmetrically_within_its_bounds_and_not_within_noise() -> None:
    table = ExecutionReward(efficiency_weight=0.5, noise_band=0.1)
    gains = [execution_reward(table, "passed", 1, 1, t, 1.0) for t in (0.5, 2.0, 0.01, 100.0, 1.05)]
    assert gains == pytest.approx([1.5, 0.5, 1.5, 0.5, 1.0])
    assert execution_reward(table, "passed", 1, 1, None, 1.0) == 1.0


def test_reports_that_contradict_themselves_are_refused() -> None:
    table = PRESETS["coderl"]
    with pytest.raises(CodealignError, match="does not fit 1 of 2"):
        execution_reward(table, "passed", 1, 2)
    with pytest.raises(CodealignError, match="did you mean 'timeout'"):
        execution_reward(table, "time_out", 1, 2)
    with pytest.raises(CodealignError, match="above 0 s"):
        execution_reward(table, "passed", 2, 2, 0.0, 1.0)


def test_partial_credit_may_reach_programs_that_raised() -> None:
    rate = PRESETS["pass_rate"]
    found = [execution_reward(rate, status, 3, 4) for status in ("failed_test", "runtime_error", "timeout")]
    assert found == [0.75] * 3
    assert execution_reward(ExecutionReward(partial_credit=0.5), "runtime_error", 3, 4) == -0.6


def test_tables_are_accepted_exactly_where_enumeration_finds_no_wrong_program_above_a_right_one() -> None:
    """Against every status, share of tests and time: with 10^6 tests the share comes as near 1 as matters."""
    accepted = refused = 0
    for failed, credit, weight, floor, cap, every, late in itertools.product(
        (-0.5, 0.0, 0.4),
        (0.0, 0.5, 1.0, 1.3),
        (0.0, 0.2, 0.9),
        (0.25, 1.0),
        (1.0, 4.0),
        (False, True),
        (0.0, 0.3),
    ):
        options = {
            "failed_test": failed,
            "partial_credit": credit,
            "efficiency_weight": weight,
            "ratio_floor": floor,
            "ratio_cap": cap,
            "credit_failures": every,
            "timeout": late,
        }
        # Built past the check, so that the order is counted and not believed.
        table = object.__new__(ExecutionReward)
        for name, value in {**_defaults(), **options}.items():
            object.__setattr__(table, name, value)
        counts = [(n - 1, n) for n in (1, 2, 10, 10**6)] + [(0, 3)]
        wrong = [execution_reward(table, status, *count) for status in STATUSES[:-1] for count in counts]
        right = [execution_reward(table, "passed", 3, 3, t, 1.0) for t in (1e-9, 0.5, 1.0, 2.0, 3.0, 1e9)]
        right.append(execution_reward(table, "passed", 3, 3))
        ordered = min(right) > max(wrong)  # type: ignore[type-var]
        try:
            ExecutionReward(**options)  # type: ignore[arg-type]
        except CodealignError:
            refused += 1
            assert not ordered, options
        else:
            accepted += 1
            assert ordered, options
    assert accepted > 50 and refused > 50


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(ExecutionReward)}
