"""Masks: which weights, how many, and bits that read back as they were written."""

from __future__ import annotations

import pytest
import torch

from alignment.zeroth_order.masks import is_masked, packed, threshold, unpacked
from codegen_eval.errors import CodealignError


def test_the_small_weights_move_and_as_many_as_asked() -> None:
    weight = torch.tensor([[-4.0, 1.0, 0.5], [2.0, -0.1, 3.0]])
    h = threshold(weight, 0.5)
    assert h == 1.0, "the third smallest of six"
    moved = unpacked(packed(weight, h), 0, 6)
    assert moved.tolist() == [False, True, True, False, True, False]
    assert threshold(weight, 0.0) == 4.0
    assert threshold(weight, 0.99) == pytest.approx(0.1), "one entry at least"


@pytest.mark.parametrize("sparsity", [0.25, 0.75, 0.9])
def test_the_share_is_kept_at_any_size(sparsity: float) -> None:
    weight = torch.randn(37, 53, generator=torch.Generator().manual_seed(1))
    moved = unpacked(packed(weight, threshold(weight, sparsity)), 0, weight.numel())
    assert int(moved.sum()) == pytest.approx((1 - sparsity) * weight.numel(), abs=1)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1001])
def test_bits_read_back_as_written_from_any_entry(count: int) -> None:
    weight = torch.randn(count, generator=torch.Generator().manual_seed(count))
    bits = packed(weight, 0.5)
    assert bits.numel() == -(-count // 8) and bits.dtype == torch.uint8
    expected = weight.abs() <= 0.5
    assert torch.equal(unpacked(bits, 0, count), expected)
    for begin in range(count):
        part = min(13, count - begin)
        assert torch.equal(unpacked(bits, begin, part), expected[begin : begin + part])


def test_vectors_and_matrices_of_zeros_are_moved_whole() -> None:
    assert not is_masked(torch.ones(5))
    assert not is_masked(torch.zeros(3, 3)), "an adapter's second factor, which starts at zero"
    assert is_masked(torch.eye(3))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5])
def test_a_sparsity_that_leaves_nothing_is_refused(sparsity: float) -> None:
    with pytest.raises(CodealignError, match=r"\[0, 1\)"):
        threshold(torch.ones(2, 2), sparsity)
