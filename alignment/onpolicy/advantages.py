"""Advantages of whole answers: REINFORCE, ReMax, RLOO, GRPO, Dr. GRPO, REINFORCE++.

Rewards are (batch,), the samples of one prompt side by side, any KL taken off already (`shaped_rewards`). A
function's `valid` says which rows have a reward (rows.py); the others get 0 and enter no mean. Nothing here
has a gradient. Give the rewards of the global batch, gathered over processes, where a mean runs over more
than one group.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from alignment.kl import Penalty, kl_penalty
from alignment.onpolicy.rows import check_right_padded, check_same, group_valid, grouped, remax_valid
from codegen_eval.errors import CodealignError, unknown

Scale = Literal["group", "batch", "none"]
Discounting = Literal["standard", "repo"]


def shaped_rewards(rewards: Tensor, sequence_kl: Tensor, beta: float) -> Tensor:
    """Rewards minus beta times the summed KL of each answer, all (batch,)."""
    check_same(rewards=rewards, sequence_kl=sequence_kl)
    return rewards - beta * sequence_kl


def reinforce_advantages(rewards: Tensor, valid: Tensor | None = None) -> Tensor:
    """REINFORCE (Williams 1992) with the batch mean as baseline, (batch,).

    The mean holds the row itself, so the expected gradient is (1 - 1/n) times the true one.
    """
    known = _known(rewards, valid)
    return torch.where(known, rewards - _mean(rewards, known), 0.0)


def remax_advantages(
    rewards: Tensor,
    greedy_rewards: Tensor,
    num_generations: int = 1,
    *,
    clip: float | None = None,
    valid: Tensor | None = None,
    greedy_valid: Tensor | None = None,
) -> Tensor:
    """ReMax (arXiv 2310.10505, algorithm 1): reward minus that of the prompt's greedy answer, (batch,).

    Args:
        rewards: (prompts x num_generations,).
        greedy_rewards: (prompts,), of answers by the same weights; no KL enters them.
        num_generations: Samples of one prompt.
        clip: Bounds the difference to +-clip, as ReMax's repository does with 5; None for no bound.
        valid: (prompts x num_generations,).
        greedy_valid: (prompts,); False drops every sample of the prompt.

    Raises:
        CodealignError: For batches that do not fit or a clip that is not above 0.
    """
    if clip is not None and not clip > 0:
        raise CodealignError(f"clip is {clip}: give a bound above 0, or none")
    if greedy_valid is None:
        greedy_valid = torch.ones_like(greedy_rewards, dtype=torch.bool)
    known = remax_valid(_known(rewards, valid), greedy_valid, num_generations)
    difference = rewards - greedy_rewards.repeat_interleave(num_generations)
    if clip is not None:
        difference = difference.clamp(-clip, clip)
    return torch.where(known, difference, 0.0)


def rloo_advantages(rewards: Tensor, num_generations: int, valid: Tensor | None = None) -> Tensor:
    """RLOO (arXiv 2402.14740, eq. 8): reward minus the mean of the prompt's other samples, (batch,).

    A sample whose group holds no other known one gets 0.

    Raises:
        CodealignError: For fewer than 2 samples a prompt, or a batch that is not made of groups.
    """
    known = _group_known(rewards, num_generations, valid)
    values = torch.where(known, grouped(rewards, num_generations), 0.0)
    number = known.sum(1, keepdim=True)
    others = (values.sum(1, keepdim=True) - values) / (number - 1).clamp(min=1)
    return torch.where(known, values - others, 0.0).flatten()


def grpo_advantages(
    rewards: Tensor,
    num_generations: int,
    *,
    scale: Scale = "group",
    eps: float = 1e-4,
    valid: Tensor | None = None,
) -> Tensor:
    """GRPO (arXiv 2402.03300, section 4.1.2): (reward - group mean) / standard deviation, (batch,).

    Args:
        rewards: (prompts x num_generations,).
        num_generations: Samples of one prompt, 2 or more.
        scale: "group" divides by the group's sample deviation + eps, "batch" by that of all rewards + eps,
            "none" by nothing: that is Dr. GRPO (arXiv 2503.20783).
        eps: Added to the deviation; TRL's value.
        valid: (prompts x num_generations,).

    Raises:
        CodealignError: For fewer than 2 samples a prompt, a batch not made of groups, or an unknown scale.
    """
    if scale not in get_args(Scale):
        raise unknown("scale", scale, get_args(Scale))
    known = _group_known(rewards, num_generations, valid)
    values = grouped(rewards, num_generations)
    centred = _centred(values, known)
    if scale == "none":
        return centred.flatten()
    if scale == "batch":
        return (centred / (_deviation(rewards[known.flatten()]) + eps)).flatten()
    freedom = (known.sum(1, keepdim=True) - 1).clamp(min=1)
    return (centred / ((centred**2).sum(1, keepdim=True) / freedom).sqrt().add(eps)).flatten()


def reinforce_pp_baseline_advantages(
    rewards: Tensor, num_generations: int, valid: Tensor | None = None
) -> Tensor:
    """REINFORCE++-baseline (arXiv 2501.03262): group mean off, then standardised over the batch, (batch,).

    The batch's variance is the population's, with 1e-8 added under the root. Plain REINFORCE++ is
    `token_advantages` of the rewards, then `whitening.whiten`.
    """
    known = _group_known(rewards, num_generations, valid)
    centred = _centred(grouped(rewards, num_generations), known)
    number = known.sum().clamp(min=1)
    mean = centred.sum() / number
    variance = torch.where(known, (centred - mean) ** 2, 0.0).sum() / number
    return torch.where(known, (centred - mean) * torch.rsqrt(variance + 1e-8), 0.0).flatten()


def token_advantages(
    advantages: Tensor,
    mask: Tensor,
    kl: Tensor | None = None,
    *,
    beta: float = 0.0,
    form: Penalty = "return_to_go",
    gamma: float = 1.0,
    discounting: Discounting = "standard",
) -> Tensor:
    """The answer's advantage at each token, discounted, minus beta times the KL penalty; (batch, tokens).

    Args:
        advantages: (batch,).
        mask: (batch, tokens), right-padded, true on completion tokens including EOS.
        kl: (batch, tokens), estimates by token; may be absent where beta is 0.
        beta: KL coefficient.
        form: See `alignment.kl.kl_penalty`.
        gamma: Discount, 0 < gamma <= 1.
        discounting: "standard": gamma^(length-1-t), the last token counts whole; "repo": gamma^(length-t), as
            in ReMax's repository, where the last token is discounted once already.

    Raises:
        CodealignError: For shapes that do not fit, masks with gaps, gamma out of range, or beta without KL.
    """
    check_right_padded(mask)
    if advantages.shape != mask.shape[:1]:
        raise CodealignError(f"{len(mask)} rows need as many advantages, got shape {list(advantages.shape)}")
    if not 0 < gamma <= 1:
        raise CodealignError(f"gamma is {gamma}: give a discount above 0, at most 1")
    if discounting not in get_args(Discounting):
        raise unknown("discounting", discounting, get_args(Discounting))
    lengths = mask.bool().sum(1, keepdim=True)
    left = lengths - torch.arange(mask.shape[1], device=mask.device) - int(discounting == "standard")
    values = advantages[:, None] * gamma ** left.clamp(min=0).to(advantages)
    if beta != 0 and form != "none":
        if kl is None:
            raise CodealignError(f"beta is {beta}, so the KL by token is needed; give kl, or beta 0")
        values = values - beta * kl_penalty(kl, mask, form)
    return torch.where(mask.bool(), values, 0.0)


def _known(rewards: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return torch.ones_like(rewards, dtype=torch.bool)
    check_same(rewards=rewards, valid=valid)
    return valid.bool()


def _group_known(rewards: Tensor, num_generations: int, valid: Tensor | None) -> Tensor:
    if num_generations < 2:
        raise CodealignError(
            f"num_generations is {num_generations}: a group's baseline needs 2 or more samples a prompt"
        )
    return grouped(group_valid(_known(rewards, valid), num_generations), num_generations)


def _mean(values: Tensor, known: Tensor) -> Tensor:
    return torch.where(known, values, 0.0).sum() / known.sum().clamp(min=1)


def _centred(values: Tensor, known: Tensor) -> Tensor:
    mean = torch.where(known, values, 0.0).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    return torch.where(known, values - mean, 0.0)


def _deviation(values: Tensor) -> Tensor:
    """Sample standard deviation; 0 for fewer than 2 values."""
    return values.std() if len(values) > 1 else torch.zeros((), dtype=values.dtype, device=values.device)
