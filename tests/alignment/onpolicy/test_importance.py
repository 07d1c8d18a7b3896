"""Importance weights: unbiased below the cap, and the tail is told."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alignment.onpolicy.importance import importance_weights
from codegen_eval.errors import CodealignError

LENGTHS = torch.tensor([6, 1, 3, 0, 4, 2])
MASK = torch.arange(6) < LENGTHS[:, None]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_importance_weights_make_the_samplers_mean_that_of_the_policy() -> None:
    policy, sampler = rand(5).log_softmax(0), rand(5, seed=1).log_softmax(0)
    weights = importance_weights(policy[None], sampler[None], torch.ones(1, 5), cap=100.0).weights[0]
    function = rand(5, seed=2)
    torch.testing.assert_close((sampler.exp() * weights * function).sum(), (policy.exp() * function).sum())


def test_the_tail_of_importance_weights_is_cut_and_told() -> None:
    gap = torch.tensor([[1.0, 1.0, 8.0, 999.0]], dtype=torch.float64).log()
    mask = torch.tensor([[1, 1, 1, 0]])
    cut = importance_weights(gap, torch.zeros(1, 4), mask, cap=3.0)
    assert cut.weights.tolist() == [pytest.approx([1.0, 1.0, 3.0, 0.0])]
    assert cut.figures["mean"] == pytest.approx(10 / 3)
    assert cut.figures["max"] == pytest.approx(8) and cut.figures["p99"] == pytest.approx(8)
    assert cut.figures["over_cap"] == pytest.approx(1 / 3)
    assert cut.figures["effective_share"] == pytest.approx(25 / 33)
    dropped = importance_weights(gap, torch.zeros(1, 4), mask, cap=3.0, excess="mask")
    assert dropped.weights.tolist() == [pytest.approx([1.0, 1.0, 0.0, 0.0])]
    whole = importance_weights(gap, torch.zeros(1, 4), mask, cap=10.0, level="sequence_sum")
    assert whole.weights.tolist() == [pytest.approx([8.0, 8.0, 8.0, 0.0])]
    answers = torch.cat([gap, torch.tensor([[2.0, 1.0, 1.0, 1.0]], dtype=torch.float64).log()])
    both = importance_weights(
        answers, torch.zeros(2, 4), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]), cap=10.0, level="sequence_sum"
    )
    assert both.figures["mean"] == pytest.approx(5), "an answer counts once, not once a token"


def test_equal_log_probabilities_weigh_exactly_1() -> None:
    logps = -rand(6, 6).abs()
    found = importance_weights(logps, logps.clone(), MASK)
    assert (found.weights == MASK).all() and found.figures["effective_share"] == 1.0
    with pytest.raises(CodealignError, match="sampler is not finite"):
        importance_weights(logps, torch.full((6, 6), float("-inf")), MASK)
