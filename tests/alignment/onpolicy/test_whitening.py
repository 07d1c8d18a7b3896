"""Whitening over parts of a batch is that of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alignment.onpolicy.whitening import masked_moments, whiten
from codegen_eval.errors import CodealignError


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_of_parts_add_up_to_those_of_the_whole() -> None:
    values = 100 + rand(6, 7)
    mask = torch.rand(6, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[2] = False
    parts = [masked_moments(values[i : i + 1], mask[i : i + 1]) for i in range(6)]
    together = parts[0]
    for part in parts[1:]:
        together = together + part
    kept = values[mask]
    torch.testing.assert_close(together.mean, kept.mean())
    torch.testing.assert_close(together.variance(), kept.var())
    torch.testing.assert_close(together.variance("population"), kept.var(unbiased=False))
    whole = whiten(values, mask)
    halves = [whiten(values[part], mask[part], together) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close(torch.cat(halves), whole)
    assert whole[mask].mean().abs() < 1e-10 and whole[mask].std().item() == pytest.approx(1)


def test_whitening_can_keep_the_mean() -> None:
    values, mask = 3 + rand(4, 4), torch.ones(4, 4)
    found = whiten(values, mask, shift_mean=False)
    assert found.mean().item() == pytest.approx(values.mean().item())
    assert found.std().item() == pytest.approx(1)


def test_too_few_values_are_refused() -> None:
    with pytest.raises(CodealignError, match="whitening needs 2"):
        whiten(torch.ones(1, 2), torch.tensor([[1, 0]]))
