"""GAE against a scalar loop and its two ends."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alignment.onpolicy.gae import explained_variance, gae, missing_eos_penalty, token_rewards
from codegen_eval.errors import CodealignError

LENGTHS = [5, 3, 1]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_advantages_are_the_discounted_sum_of_errors() -> None:
    rewards, values = rand(3, 5), rand(3, 5, seed=1)
    advantages, returns = gae(rewards, values, MASK, gamma=0.9, lam=0.7)
    for row, length in enumerate(LENGTHS):
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        deltas = [r[t] + 0.9 * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((0.9 * 0.7) ** (s - t) * deltas[s] for s in range(t, length))
            assert advantages[row, t].item() == pytest.approx(expected)
            assert returns[row, t].item() == pytest.approx(expected + v[t])


def test_lambda_1_is_reward_to_go_minus_value_and_what_is_masked_never_counts() -> None:
    rewards, values = rand(3, 5), rand(3, 5, seed=1)
    spoilt = [torch.where(MASK, x, float("nan")) for x in (rewards, values)]
    advantages, returns = gae(*spoilt, MASK, lam=1.0)
    kept = torch.where(MASK, rewards, 0.0)
    to_go = kept.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(advantages, torch.where(MASK, to_go - values, 0.0))
    torch.testing.assert_close(returns, torch.where(MASK, to_go, 0.0))


def test_the_score_stands_on_the_last_token_and_nowhere_in_an_empty_row() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])
    kl = torch.tensor([[1.0, 2.0, float("nan")], [0.0, 0.0, 1.0], [9.0, 9.0, 9.0]])
    found = token_rewards(torch.tensor([10.0, 20.0, 30.0]), mask, kl, beta=0.5)
    assert found.tolist() == [[-0.5, 9.0, 0.0], [0.0, 0.0, 19.5], [0.0, 0.0, 0.0]]


def test_an_answer_without_its_end_pays_the_penalty() -> None:
    found = missing_eos_penalty(torch.tensor([1.0, 2.0]), torch.tensor([True, False]), 1.5)
    assert found.tolist() == [1.0, 0.5]


def test_explained_variance_is_1_for_a_perfect_critic_and_unknown_for_constant_returns() -> None:
    returns = rand(3, 5)
    assert explained_variance(returns + 2, returns, MASK).item() == pytest.approx(1)
    assert explained_variance(torch.zeros(3, 5), returns, MASK).item() == pytest.approx(0)
    assert explained_variance(returns, torch.ones(3, 5), MASK).isnan()


def test_bad_input_is_refused() -> None:
    with pytest.raises(CodealignError, match=r"lam is 1\.5"):
        gae(rand(3, 5), rand(3, 5), MASK, lam=1.5)
    with pytest.raises(CodealignError, match="one shape"):
        gae(rand(3, 5), rand(3, 4), MASK)
    with pytest.raises(CodealignError, match="right-padded"):
        gae(rand(3, 5), rand(3, 5), MASK.flip(1))
