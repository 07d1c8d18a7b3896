"""Rewards that are missing blank their row; rewards that are no numbers are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alignment.onpolicy.rows import blank_rows, check_right_padded, group_valid, remax_valid, reward_tensor
from codegen_eval.errors import CodealignError


def test_none_is_a_blank_row_and_not_a_reward_of_0() -> None:
    rewards, valid = reward_tensor([1, None, 0.0])
    assert rewards.tolist() == [1.0, 0.0, 0.0]
    assert valid.tolist() == [True, False, True]
    mask = torch.tensor([[1, 1], [1, 1], [1, 0]])
    assert blank_rows(mask, valid).tolist() == [[True, True], [False, False], [True, False]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "1", True])
def test_a_reward_that_is_no_finite_number_is_refused_by_row(bad: object) -> None:
    with pytest.raises(CodealignError, match="row 1"):
        reward_tensor([0.0, bad])  # type: ignore[list-item]


def test_numbers_of_numpy_are_numbers() -> None:
    rewards, _ = reward_tensor([np.float32(0.5), np.int64(2)])
    assert rewards.tolist() == [0.5, 2.0]


def test_empty_batches_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(CodealignError, match="empty"):
        reward_tensor([])
    with pytest.raises(CodealignError, match="one mark a row"):
        blank_rows(torch.ones(2, 3), torch.ones(3))
    with pytest.raises(CodealignError, match="row 1 has completion tokens after"):
        check_right_padded(torch.tensor([[1, 1], [0, 1]]))


def test_which_rows_stay_is_told_by_prompt() -> None:
    valid = torch.tensor([True, False, True, True])
    assert remax_valid(valid, torch.tensor([True, False]), 2).tolist() == [True, False, False, False]
    assert group_valid(valid, 2).tolist() == [False, False, True, True]
