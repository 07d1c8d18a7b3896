"""The execution reward: right above wrong, speed within bounds, nothing where the sandbox broke."""

from __future__ import annotations

import math

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
