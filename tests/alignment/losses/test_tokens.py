"""Losses by token: where sides begin to differ, segments, weights of sequences, KL over the vocabulary."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alignment.losses.base import make_loss
from alignment.losses.tokens import (
    first_difference,
    sequence_kl,
    split_segments,
    summed,
    visit_smoothing,
    wpo_weights,
)
from codegen_eval.errors import CodealignError
from tests.alignment.losses.batches import batch


def rows(*ids: list[int], left: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids with their mask: `left` columns of prompt, then the ids, padded to the longest."""
    width = left + max(map(len, ids))
    padded = torch.zeros(len(ids), width, dtype=torch.long)
    mask = torch.zeros(len(ids), width, dtype=torch.bool)
    for i, row in enumerate(ids):
        padded[i, left : left + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[i, left : left + len(row)] = True
    return padded, mask


@pytest.mark.parametrize("left", [0, 3])
def test_the_first_difference_counts_from_the_completions_start(left: int) -> None:
    chosen, chosen_mask = rows([1, 2, 3], [5, 6], [7], left=left)
    rejected, rejected_mask = rows([1, 9, 3], [5, 6, 7, 8], [8], left=left)
    assert first_difference(chosen, rejected, chosen_mask, rejected_mask).tolist() == [1, 2, 0]


def test_a_token_equal_to_the_padding_still_differs_from_it() -> None:
    chosen, chosen_mask = rows([4, 0])
    rejected, rejected_mask = rows([4])
    assert first_difference(chosen, rejected, chosen_mask, rejected_mask).tolist() == [1]


def test_equal_sides_are_refused() -> None:
    chosen, chosen_mask = rows([1, 2], [3, 4])
    rejected, rejected_mask = rows([1, 5], [3, 4])
    with pytest.raises(CodealignError, match="pair 1 of the batch are equal"):
        first_difference(chosen, rejected, chosen_mask, rejected_mask)


def test_sides_that_start_in_different_columns_are_refused() -> None:
    chosen, chosen_mask = rows([1, 2], left=1)
    rejected, rejected_mask = rows([1, 2, 3])
    with pytest.raises(CodealignError, match="same column"):
        first_difference(chosen, rejected, chosen_mask, rejected_mask)


def test_tokens_before_the_first_difference_do_not_count() -> None:
    tensors = batch()
    before = make_loss("step_dpo")(tensors)
    assert before.extras["first_difference"].min() >= 1
    for key in ("chosen_token_logps", "ref_rejected_token_logps"):
        tensors[key][:, 0] -= 7.0
    torch.testing.assert_close(make_loss("step_dpo")(tensors).losses, before.losses)
    first = before.extras["first_difference"]
    tensors["chosen_token_logps"][torch.arange(4), first] -= 7.0
    assert (make_loss("step_dpo")(tensors).losses > before.losses).all()


@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_segments_are_a_common_prefix_a_middle_and_a_common_suffix(a: list[int], b: list[int]) -> None:
    first, second = split_segments(a, b)
    assert (len(first), len(second)) == (len(a), len(b))
    assert first == sorted(first) and second == sorted(second)
    for part in (0, 2):
        assert [t for t, s in zip(a, first, strict=True) if s == part] == [
            t for t, s in zip(b, second, strict=True) if s == part
        ]
    middle, other = ([t for t, s in zip(x, y, strict=True) if s == 1] for x, y in ((a, first), (b, second)))
    if middle and other:
        assert middle[0] != other[0] and middle[-1] != other[-1]
    else:
        assert a == b or (len(a) != len(b))


def test_segments_by_hand() -> None:
    assert split_segments([1, 2, 3, 9], [1, 4, 4, 9]) == ([0, 1, 1, 2], [0, 1, 1, 2])
    assert split_segments([1, 1], [1]) == ([0, 1], [0])
    assert split_segments([], [5]) == ([], [1])


def test_a_doubled_middle_counts_twice() -> None:
    tensors = batch()
    for side in ("chosen", "rejected"):
        tensors[f"{side}_segments"] = torch.ones_like(tensors[f"{side}_segments"])
    found = make_loss("segment_weighted_dpo", beta=0.1)(tensors).losses
    torch.testing.assert_close(found, make_loss("dpo", beta=0.2)(tensors).losses)


def test_tokens_beyond_the_shorter_side_weigh_less() -> None:
    tensors = batch()
    found = make_loss("ld_dpo", ld_alpha=0.0)(tensors)
    shorter = torch.minimum(tensors["chosen_lengths"], tensors["rejected_lengths"])[:, None]
    mask = torch.arange(6) < shorter
    ratio = tensors["chosen_token_logps"] - tensors["ref_chosen_token_logps"]
    torch.testing.assert_close(found.chosen_rewards, 0.1 * (ratio * mask).sum(1))


def test_a_prompt_before_the_completion_changes_nothing() -> None:
    tensors = batch()
    shifted = dict(tensors)
    for key, value in tensors.items():
        if value.ndim == 2:
            fill = torch.zeros(4, 3, dtype=value.dtype) if "mask" in key else value[:, :3].clone()
            shifted[key] = torch.cat([fill, value], dim=1)
    for name in ("step_dpo", "ld_dpo", "segment_weighted_dpo", "wpo"):
        torch.testing.assert_close(make_loss(name)(shifted).losses, make_loss(name)(tensors).losses)


def test_wpo_wants_the_vocabulary_of_both_sides_or_of_none() -> None:
    tensors = batch()
    del tensors["chosen_log_sum_p2"]
    with pytest.raises(CodealignError, match="both sides"):
        make_loss("wpo")(tensors)


def test_a_sequence_that_the_policy_surely_writes_weighs_1() -> None:
    mask = torch.tensor([[True, True, False]])
    assert wpo_weights(torch.zeros(1, 3), mask).item() == 1
    # Uniform over 4 tokens: p = 1/4, sum p^2 = 1/4, so the aligned weight is 1 as well.
    uniform = torch.full((1, 3), 0.25).log()
    assert wpo_weights(uniform, mask, uniform).item() == pytest.approx(1)
    assert wpo_weights(uniform, mask).item() == pytest.approx(0.25)
    with pytest.raises(CodealignError, match="empty"):
        wpo_weights(uniform, torch.zeros(1, 3, dtype=torch.bool))


def test_the_kl_of_a_sequence_by_hand() -> None:
    reference = torch.tensor([[[0.5, 0.5], [0.9, 0.1]]], dtype=torch.float64).log()
    policy = torch.tensor([[[0.25, 0.75], [0.5, 0.5]]], dtype=torch.float64).log()
    first = 0.5 * (torch.tensor(2.0).log() + torch.tensor(2 / 3).log()).item()
    found = sequence_kl(policy + 3.0, reference - 1.0, torch.tensor([[True, False]]))
    assert found.item() == pytest.approx(first, abs=1e-7)
    assert sequence_kl(policy, policy, torch.tensor([[True, True]])).item() == pytest.approx(0)


def test_a_reference_with_another_vocabulary_is_refused() -> None:
    with pytest.raises(CodealignError, match="same shape"):
        sequence_kl(torch.zeros(1, 2, 5), torch.zeros(1, 2, 6), torch.ones(1, 2))


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(CodealignError, match="same shape"):
        summed(torch.zeros(2, 3), torch.ones(2, 1))


def test_smoothing_from_visits_stays_below_a_coin_toss() -> None:
    chosen, rejected = torch.tensor([3, 0, 0, 1]), torch.tensor([1, 0, 5, 9])
    assert visit_smoothing(chosen, rejected).tolist() == pytest.approx([0.25, 0.0, 0.5, 0.5])
    assert visit_smoothing(chosen, rejected, capped=False).tolist() == pytest.approx([0.25, 0.5, 1.0, 0.9])
    with pytest.raises(CodealignError, match="visits"):
        visit_smoothing(torch.tensor([-1]), torch.tensor([1]))
