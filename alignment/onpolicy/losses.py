"""Policy and value losses by token, and how a global batch adds them up.

A loss function gives one number a token. `aggregate` sums them over a micro-batch and divides by a count of
the *global* batch (`batch_size`, added over micro-batches and processes first), so that splitting a batch
changes nothing: the losses, and so the gradients, of the parts add up to those of the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alignment.onpolicy.rows import check_same
from codegen_eval.errors import CodealignError, unknown

Aggregation = Literal["token_mean", "sequence_sum", "sequence_mean", "constant"]
RatioLevel = Literal["token", "sequence_sum", "sequence_mean"]


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """What a clipped loss says of each token; all (batch, tokens), 0 where masked.

    Attributes:
        losses: With gradient.
        ratio: Probability now over probability at rollout (value losses: 1), detached.
        clipped: Where a clip decided: the loss has no gradient there, or less of one. 1.0 or 0.0.
    """

    losses: Tensor
    ratio: Tensor
    clipped: Tensor


def reinforce_losses(logps: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """-advantage x log-probability: plain policy gradient (REINFORCE, ReMax), (batch, tokens)."""
    check_same(logps=logps, advantages=advantages, mask=mask)
    kept = mask.bool()
    # Masked inputs are taken out before the product: NaN x 0 would reach the gradient.
    return -torch.where(kept, advantages.detach(), 0.0) * torch.where(kept, logps, 0.0)


def log_ratios(logps: Tensor, old_logps: Tensor, mask: Tensor, level: RatioLevel = "token") -> Tensor:
    """log(probability now / at rollout) for each token, (batch, tokens), 0 where masked.

    `sequence_sum` gives every token the ratio of its whole answer (RLOO as TRL clips it), `sequence_mean` the
    geometric mean over its tokens (GSPO, arXiv 2507.18071, eq. 7). With either take the aggregation
    `sequence_mean`, so that an answer counts once.

    Raises:
        CodealignError: For unequal shapes or an unknown level.
    """
    check_same(logps=logps, old_logps=old_logps, mask=mask)
    if level not in get_args(RatioLevel):
        raise unknown("level of the ratio", level, get_args(RatioLevel))
    kept = mask.bool()
    difference = torch.where(kept, logps - old_logps, 0.0)
    if level == "token":
        return difference
    whole = difference.sum(-1, keepdim=True)
    if level == "sequence_mean":
        whole = whole / kept.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(kept, whole, 0.0)


def ppo_losses(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    dual_clip: float | None = None,
    level: RatioLevel = "token",
) -> TokenLosses:
    """Clipped surrogate (PPO, arXiv 1707.06347, eq. 7): max(-A q, -A clip(q, 1 - clip, 1 + clip_high)).

    Args:
        logps: Of the sampled tokens under the weights in training, (batch, tokens).
        old_logps: Under the weights that sampled, by the same code and temperature: q is exactly 1 at first.
        advantages: (batch, tokens), detached.
        mask: True on completion tokens.
        clip: Lower distance from 1.
        clip_high: Upper distance (DAPO, arXiv 2503.14476, eq. 10); as `clip` where None.
        dual_clip: c > 1 bounds the loss of tokens with A < 0 by -A c (Ye et al. 2019, arXiv 1912.09729, eq.
            10): a huge ratio of a bad token no longer decides the step. None for none.
        level: See `log_ratios`.

    Raises:
        CodealignError: For unequal shapes, a clip outside (0, 1), a clip_high of 0 or less, or a dual clip of
            1 or less.
    """
    check_same(logps=logps, advantages=advantages)
    high = clip if clip_high is None else clip_high
    if not 0 < clip < 1 or not high > 0:
        raise CodealignError(f"clip {clip} must lie in (0, 1) and clip_high {high} above 0")
    if dual_clip is not None and not dual_clip > 1:
        raise CodealignError(f"dual_clip is {dual_clip}: give a bound above 1, or none")
    kept = mask.bool()
    advantages = torch.where(kept, advantages.detach(), 0.0)
    ratio = log_ratios(logps, old_logps, mask, level).exp()
    plain = -advantages * ratio
    bounded = -advantages * ratio.clamp(1 - clip, 1 + high)
    clipped = bounded > plain
    losses = torch.maximum(plain, bounded)
    if dual_clip is not None:
        ceiling = -advantages * dual_clip
        over = (advantages < 0) & (losses > ceiling)
        losses, clipped = torch.where(over, ceiling, losses), clipped | over
    return TokenLosses(
        torch.where(kept, losses, 0.0),
        torch.where(kept, ratio.detach(), 0.0),
        (kept & clipped).to(losses.dtype),
    )


def value_losses(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, *, clip: float | None = 0.2
) -> TokenLosses:
    """Half the squared error of the critic, not less than that of the clipped value, by token.

    max((V - R)^2, (clip(V, V_old - c, V_old + c) - R)^2) / 2, as in OpenAI's baselines (ppo2). `clip` None:
    the plain error.

    Raises:
        CodealignError: For unequal shapes, or a clip that is not above 0.
    """
    check_same(values=values, old_values=old_values, returns=returns, mask=mask)
    if clip is not None and not clip > 0:
        raise CodealignError(f"the value clip is {clip}: give a bound above 0, or none")
    kept = mask.bool()
    values, old_values, returns = (
        torch.where(kept, x, 0.0) for x in (values, old_values.detach(), returns.detach())
    )
    plain = (values - returns) ** 2
    losses, clipped = plain, torch.zeros_like(kept)
    if clip is not None:
        near = old_values + (values - old_values).clamp(-clip, clip)
        bounded = (near - returns) ** 2
        losses, clipped = torch.maximum(plain, bounded), bounded > plain
    return TokenLosses(
        torch.where(kept, losses / 2, 0.0), kept.to(losses.dtype), (kept & clipped).to(losses.dtype)
    )


def batch_size(mask: Tensor, aggregation: Aggregation) -> Tensor:
    """What `aggregate` divides by, counted here: tokens for `token_mean`, else rows with a token; a scalar.

    Add it over all micro-batches of an optimiser step and over all processes before the first loss.
    """
    if aggregation not in get_args(Aggregation):
        raise unknown("aggregation", aggregation, get_args(Aggregation))
    kept = mask.bool()
    return kept.sum() if aggregation == "token_mean" else kept.any(-1).sum()


def aggregate(
    losses: Tensor,
    mask: Tensor,
    aggregation: Aggregation,
    total: Tensor | float,
    *,
    max_length: int | None = None,
) -> Tensor:
    """A micro-batch's part of the global batch's loss, a scalar.

    Args:
        losses: By token, (batch, tokens).
        mask: Of the same shape.
        aggregation: "token_mean" (DAPO, PPO), "sequence_sum" (sum over tokens, mean over answers: ReMax's
            algorithm 1), "sequence_mean" (mean over an answer's tokens, then over answers: GRPO), "constant"
            (sum over tokens / max_length, mean over answers: Dr. GRPO).
        total: `batch_size` of the whole global batch. With DDP or ZeRO, which average the processes'
            gradients, multiply the result by the number of processes.
        max_length: The longest completion that is allowed, for "constant" alone.

    Raises:
        CodealignError: For unequal shapes, an unknown aggregation, a total that is not above 0, or a
            max_length missing or given without use.
    """
    check_same(losses=losses, mask=mask)
    if aggregation not in get_args(Aggregation):
        raise unknown("aggregation", aggregation, get_args(Aggregation))
    if (aggregation == "constant") != (max_length is not None):
        raise CodealignError(
            f"max_length goes with the aggregation 'constant' alone; got {max_length} with {aggregation!r}"
        )
    if not float(total) > 0:
        raise CodealignError(
            f"the global batch has {float(total):g} rows or tokens to learn from: every reward is missing or "
            "every answer empty; skip the step"
        )
    kept = mask.bool()
    summed = torch.where(kept, losses, 0.0).sum(-1)
    if aggregation == "sequence_mean":
        summed = summed / kept.sum(-1).clamp(min=1)
    if max_length is not None:
        summed = summed / max_length
    return summed.sum() / total


def ratio_figures(result: TokenLosses, logps: Tensor, old_logps: Tensor, mask: Tensor) -> dict[str, float]:
    """What to log of a clipped loss: mean and largest ratio, share of clipped tokens, and approxkl.

    approxkl = mean of (logps - old_logps)^2 / 2 over tokens, TRL's; on the first pass: 1, 1, 0, 0. NaN in all
    where the mask is empty.
    """
    check_same(logps=logps, old_logps=old_logps, mask=mask)
    kept = mask.bool()
    if not kept.any():
        return dict.fromkeys(("ratio", "ratio_max", "clip_fraction", "approxkl"), math.nan)
    return {
        "ratio": result.ratio[kept].mean().item(),
        "ratio_max": result.ratio[kept].max().item(),
        "clip_fraction": result.clipped[kept].mean().item(),
        "approxkl": ((logps - old_logps)[kept].detach() ** 2 / 2).mean().item(),
    }
