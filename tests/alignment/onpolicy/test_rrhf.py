"""RRHF: every ordered pair once, ties not at all, the best one imitated."""

from __future__ import annotations

import itertools

import pytest
import torch

from alignment.onpolicy.rrhf import rrhf_loss
from codegen_eval.errors import CodealignError


def test_rrhf_ranks_every_ordered_pair_once() -> None:
    logps = torch.tensor([-4.0, -2.0, -9.0, -3.0], dtype=torch.float64, requires_grad=True)
    lengths, rewards = torch.tensor([4, 1, 3, 2]), torch.tensor([0.0, 1.0, 1.0, 2.0])
    found = rrhf_loss(logps, lengths, rewards, rank_weight=0.5)
    p = (logps.detach() / lengths).tolist()
    pairs = itertools.permutations(range(4), 2)
    expected = sum(max(0.0, p[i] - p[j]) for i, j in pairs if rewards[i] < rewards[j])
    assert found.rank_loss.item() == pytest.approx(expected)
    assert found.best == 3 and found.loss.item() == pytest.approx(0.5 * expected + 3.0)
    (gradient,) = torch.autograd.grad(found.rank_loss, logps)
    assert gradient[2] < 0, "the better answer of lower score is pulled up"
    with pytest.raises(CodealignError, match="candidate 1 has 0 tokens"):
        rrhf_loss(logps, torch.tensor([4, 0, 3, 2]), rewards)
