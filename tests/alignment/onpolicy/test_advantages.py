"""Advantages against enumeration: what the estimators claim in expectation, they are in expectation."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from alignment.kl import kl_tokens
from alignment.onpolicy.advantages import (
    grpo_advantages,
    reinforce_advantages,
    reinforce_pp_baseline_advantages,
    remax_advantages,
    rloo_advantages,
    token_advantages,
)
from alignment.onpolicy.losses import aggregate, reinforce_losses
from codegen_eval.errors import CodealignError

LOGITS = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)
REWARDS = torch.tensor([1.0, -0.4, 0.3], dtype=torch.float64)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def true_gradient() -> Tensor:
    """Gradient of the expected reward of the bandit, by autograd through the expectation itself."""
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((logits.softmax(0) * REWARDS).sum(), logits)
    return gradient


def expected_gradient(n: int, advantages) -> Tensor:  # type: ignore[no-untyped-def]
    """Mean over all n-tuples of actions of sum_i A_i grad log pi(a_i) / n."""
    total = torch.zeros_like(LOGITS)
    for actions in product(range(3), repeat=n):
        logits = LOGITS.clone().requires_grad_()
        logps = logits.log_softmax(0)[list(actions)]
        mask = torch.ones(n, 1, dtype=torch.bool)
        weights = advantages(REWARDS[list(actions)])[:, None]
        loss = aggregate(reinforce_losses(logps[:, None], weights, mask), mask, "sequence_sum", n)
        (gradient,) = torch.autograd.grad(-loss, logits)
        total += logps.detach().exp().prod() * gradient
    return total


def test_remax_has_the_true_gradient_in_expectation() -> None:
    greedy = REWARDS[LOGITS.argmax()].repeat(1)
    found = expected_gradient(2, lambda rewards: remax_advantages(rewards, greedy, 2))
    torch.testing.assert_close(found, true_gradient())


def test_rloo_has_the_true_gradient_and_its_relatives_a_known_share_of_it() -> None:
    torch.testing.assert_close(expected_gradient(3, lambda r: rloo_advantages(r, 3)), true_gradient())
    for advantages in (reinforce_advantages, lambda r: grpo_advantages(r, 3, scale="none")):
        torch.testing.assert_close(expected_gradient(3, advantages), true_gradient() * 2 / 3)


def test_clipped_remax_is_biased() -> None:
    greedy = REWARDS[LOGITS.argmax()].repeat(1)
    found = expected_gradient(1, lambda rewards: remax_advantages(rewards, greedy, 1, clip=0.1))
    assert not torch.allclose(found, true_gradient(), rtol=1e-2)


class TwoStep:
    """Two tokens of a vocabulary of two; the second one's distribution depends on the first."""

    def __init__(self, seed: int) -> None:
        self.first, self.second = rand(2, seed=seed), rand(2, 2, seed=seed + 1)
        self.ref_first, self.ref_second = rand(2, seed=seed + 2), rand(2, 2, seed=seed + 3)
        self.rewards = rand(2, 2, seed=seed + 4)

    def logps(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return first.log_softmax(-1), second.log_softmax(-1)

    def sampled(self, form: str, beta: float) -> Tensor:
        """Expectation of the estimator's gradient, all four answers enumerated."""
        total = torch.zeros(6, dtype=torch.float64)
        for a, b in product(range(2), repeat=2):
            first, second = self.first.clone().requires_grad_(), self.second.clone().requires_grad_()
            p, q = self.logps(first, second)
            ref_p, ref_q = self.logps(self.ref_first, self.ref_second)
            logps, ref = torch.stack([p[a], q[a, b]])[None], torch.stack([ref_p[a], ref_q[a, b]])[None]
            mask = torch.ones(1, 2, dtype=torch.bool)
            kl = kl_tokens(logps, ref, "k1").detach()
            weights = token_advantages(self.rewards[a, b][None], mask, kl, beta=beta, form=form)  # type: ignore[arg-type]
            value = -reinforce_losses(logps, weights, mask).sum()
            gradients = torch.autograd.grad(value, (first, second))
            total += logps.sum().exp().item() * torch.cat([g.flatten() for g in gradients])
        return total

    def exact(self, beta: float, *, states_fixed: bool) -> Tensor:
        """Gradient of E[reward] - beta KL; `states_fixed`: no gradient through how often a state is seen."""
        first, second = self.first.clone().requires_grad_(), self.second.clone().requires_grad_()
        p, q = self.logps(first, second)
        ref_p, ref_q = self.logps(self.ref_first, self.ref_second)
        reward = (p.exp()[:, None] * q.exp() * self.rewards).sum()
        seen = p.exp().detach() if states_fixed else p.exp()
        kl = (p.exp() * (p - ref_p)).sum() + (seen * (q.exp() * (q - ref_q)).sum(1)).sum()
        gradients = torch.autograd.grad(reward - beta * kl, (first, second))
        return torch.cat([g.flatten() for g in gradients])


def test_return_to_go_is_the_gradient_of_the_kl_of_answers_and_one_step_of_that_with_fixed_states() -> None:
    world = TwoStep(3)
    torch.testing.assert_close(world.sampled("return_to_go", 0.3), world.exact(0.3, states_fixed=False))
    torch.testing.assert_close(world.sampled("one_step", 0.3), world.exact(0.3, states_fixed=True))
    assert not torch.allclose(world.sampled("one_step", 0.3), world.exact(0.3, states_fixed=False))


def test_an_offset_by_prompt_changes_nothing() -> None:
    rewards, greedy, offset = rand(12), rand(4, seed=1), 5 * rand(4, seed=2)
    shifted = rewards + offset.repeat_interleave(3)
    torch.testing.assert_close(
        remax_advantages(shifted, greedy + offset, 3), remax_advantages(rewards, greedy, 3)
    )
    for advantages in (rloo_advantages, grpo_advantages, reinforce_pp_baseline_advantages):
        torch.testing.assert_close(advantages(shifted, 3), advantages(rewards, 3))
    assert not torch.allclose(reinforce_advantages(shifted), reinforce_advantages(rewards))


def test_rloo_is_n_over_n_minus_1_times_the_centred_reward() -> None:
    rewards = rand(20)
    expected = rewards.view(4, 5) - rewards.view(4, 5).mean(1, keepdim=True)
    torch.testing.assert_close(rloo_advantages(rewards, 5), (expected * 5 / 4).flatten())


def test_blank_rows_act_as_if_they_were_not_there() -> None:
    rewards = rand(8)
    valid = torch.tensor([True, True, True, False, True, False, True, True])
    rewards[~valid] = float("nan")
    for advantages in (rloo_advantages, grpo_advantages):
        found = advantages(rewards, 4, valid=valid)
        assert (found[~valid] == 0).all()
        for group in (0, 1):
            part = slice(4 * group, 4 * group + 4)
            torch.testing.assert_close(found[part][valid[part]], advantages(rewards[part][valid[part]], 3))
    batch = grpo_advantages(rewards, 4, scale="batch", valid=valid)
    group_means = [rewards[:4][valid[:4]].mean(), rewards[4:][valid[4:]].mean()]
    centred = torch.cat([rewards[:4][valid[:4]] - group_means[0], rewards[4:][valid[4:]] - group_means[1]])
    torch.testing.assert_close(batch[valid], centred / (rewards[valid].std() + 1e-4))
    plus = reinforce_pp_baseline_advantages(rewards, 4, valid)
    torch.testing.assert_close(plus[valid], centred / centred.std(unbiased=False))
    torch.testing.assert_close(
        reinforce_advantages(rewards, valid)[valid], rewards[valid] - rewards[valid].mean()
    )


def test_a_blank_greedy_answer_drops_every_sample_of_its_prompt() -> None:
    greedy_valid = torch.tensor([True, False])
    found = remax_advantages(torch.ones(4), torch.zeros(2), 2, greedy_valid=greedy_valid)
    assert found.tolist() == [1, 1, 0, 0]


def test_a_sample_left_alone_in_its_group_says_nothing() -> None:
    valid = torch.tensor([True, False, True, True])
    for advantages in (rloo_advantages, grpo_advantages):
        assert advantages(torch.tensor([9.0, 0.0, 1.0, 3.0]), 2, valid=valid)[:2].tolist() == [0, 0]


def test_discounts_are_by_distance_from_the_end_of_each_answer() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    one = torch.ones(2, dtype=torch.float64)
    standard = token_advantages(one, mask, gamma=0.5)
    assert standard.tolist() == [[0.25, 0.5, 1.0], [1.0, 0.0, 0.0]]
    assert token_advantages(one, mask, gamma=0.5, discounting="repo").tolist() == [
        [0.125, 0.25, 0.5],
        [0.5, 0.0, 0.0],
    ]


def test_what_stands_behind_the_mask_never_counts() -> None:
    mask = torch.tensor([[1, 1, 0]])
    kl = torch.tensor([[0.1, 0.2, float("nan")]], dtype=torch.float64)
    for form in ("return_to_go", "one_step"):
        found = token_advantages(torch.ones(1), mask, kl, beta=1.0, form=form)  # type: ignore[arg-type]
        assert found.isfinite().all() and found[0, 2] == 0


def test_bad_batches_are_refused() -> None:
    with pytest.raises(CodealignError, match="groups of 3"):
        rloo_advantages(torch.zeros(4), 3)
    with pytest.raises(CodealignError, match="2 or more samples"):
        grpo_advantages(torch.zeros(4), 1)
    with pytest.raises(CodealignError, match="did you mean 'batch'"):
        grpo_advantages(torch.zeros(4), 2, scale="bach")  # type: ignore[arg-type]
    with pytest.raises(CodealignError, match="need 2 greedy rewards"):
        remax_advantages(torch.zeros(4), torch.zeros(4), 2)
    with pytest.raises(CodealignError, match="right-padded"):
        token_advantages(torch.zeros(1), torch.tensor([[1, 0, 1]]))
    with pytest.raises(CodealignError, match="KL by token is needed"):
        token_advantages(torch.zeros(1), torch.ones(1, 2), beta=0.1)


def test_a_greedy_baseline_lowers_the_variance_with_an_offset_and_raises_it_without() -> None:
    """The table of docs/onpolicy.md: two answers, the right one of probability 0.9, one sample."""
    probabilities = torch.tensor([0.9, 0.1], dtype=torch.float64)
    scores = torch.eye(2, dtype=torch.float64) - probabilities  # gradient of log softmax

    def variance(advantages: Tensor) -> float:
        gradients = advantages[:, None] * scores
        mean = probabilities @ gradients
        return float(probabilities @ (gradients - mean).pow(2).sum(1))

    for offset, plain in ((0.0, 0.0018), (1.0, 0.2178), (3.0, 1.7298)):
        rewards = torch.tensor([1.0, 0.0], dtype=torch.float64) + offset
        greedy = rewards[probabilities.argmax()].repeat(2)
        assert variance(rewards) == pytest.approx(plain)
        assert variance(remax_advantages(rewards, greedy)) == pytest.approx(0.1458)
