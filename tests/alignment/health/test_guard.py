"""The loss guard: what is a spike, and what each choice does."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from alignment.health.guard import IN_A_ROW, LEAST, LossGuard, note_rewind, passed_over, skip_ranges
from codegen_eval.errors import CodealignError


def test_noise_and_trends_are_no_spikes_and_jumps_are() -> None:
    draw = np.random.default_rng(0)
    guard = LossGuard(on_spike="skip")
    losses = 2 * np.exp(-np.arange(400) / 200) + 0.05 * draw.standard_normal(400)
    assert {guard.judge(float(loss)) for loss in losses} == {("good", "go")}
    assert guard.judge(1.5) == ("spike", "skip")
    assert guard.judge(0.3) == ("good", "go"), "the spike is not among the values that it is measured by"


def test_the_threshold_is_six_robust_deviations_by_hand() -> None:
    guard = LossGuard()
    for value in [1.0, 1.1, 0.9, 1.2, 0.8] * 4:
        assert guard.threshold() is None
        guard.judge(value)
    # Median 1, absolute deviations 0, .1, .1, .2, .2: their median is 0.1.
    assert guard.threshold() == pytest.approx(1 + 6 * 1.4826 * 0.1)


def test_nothing_is_a_spike_before_enough_is_known_nor_where_the_loss_stands_still() -> None:
    guard = LossGuard()
    assert guard.judge(1e9) == ("good", "go")
    still = LossGuard()
    for _ in range(LEAST):
        still.judge(0.5)
    assert still.judge(0.52)[0] == "good" and still.judge(0.54)[0] == "spike", "six times one per cent"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("policy", ["warn", "skip", "rewind", "stop"])
def test_a_loss_that_is_not_finite_asks_for_the_choice(value: float, policy: str) -> None:
    guard = LossGuard(on_nan=policy)
    assert guard.judge(value) == ("nan", policy)
    assert not guard.values


def test_five_in_a_row_end_the_run_and_a_good_one_between_starts_anew() -> None:
    guard = LossGuard()
    for _ in range(3):
        for _ in range(IN_A_ROW - 1):
            guard.judge(math.nan)
        guard.judge(1.0)
    for _ in range(IN_A_ROW - 1):
        guard.judge(math.nan)
    with pytest.raises(CodealignError, match=r"not finite 5 times in a row: lower the learning rate"):
        guard.judge(math.nan)


def test_rewinds_are_noted_and_their_batches_passed_over_but_not_for_ever(tmp_path: Path) -> None:
    assert skip_ranges(tmp_path) == []
    note_rewind(tmp_path, 20, 25)
    note_rewind(tmp_path, 40, 41)
    ranges = skip_ranges(tmp_path)
    assert [step for step in range(60) if passed_over(step, ranges)] == [21, 22, 23, 24, 25, 41]
    note_rewind(tmp_path, 40, 43)
    with pytest.raises(CodealignError, match="went back 3 times and the loss still breaks at step 44"):
        note_rewind(tmp_path, 40, 44)
    (tmp_path / "skip.json").write_text("torn [")
    assert skip_ranges(tmp_path) == []
