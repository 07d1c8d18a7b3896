"""Correction for a sampler that is not quite the policy: vLLM's log-probabilities against the trainer's own.

Other kernels, other precision, older weights: the sampler's distribution differs a little, and a plain policy
gradient on its samples is biased. Truncated weights (Ionides 2008) mend that up to the cap; what the weights'
tail looks like says whether the correction can be believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alignment.onpolicy.losses import RatioLevel, log_ratios
from codegen_eval.errors import CodealignError, unknown

Excess = Literal["truncate", "mask"]


@dataclass(frozen=True, slots=True)
class Correction:
    """Weights for token losses, and what to log of them.

    Attributes:
        weights: (batch, tokens), detached, 0 where masked.
        figures: `mean` of the raw ratios (1 in expectation), `max`, `p99`, `over_cap` (share above the cap),
            `effective_share` ((sum w)^2 / (n sum w^2) of the weights in use: 1 where all are equal),
            `logp_gap` (mean absolute difference of the log-probabilities). Tokens, or answers for sequence
            levels; NaN where there are none.
    """

    weights: Tensor
    figures: dict[str, float]


def importance_weights(
    old_logps: Tensor,
    sampler_logps: Tensor,
    mask: Tensor,
    *,
    level: RatioLevel = "token",
    cap: float = 3.0,
    excess: Excess = "truncate",
) -> Correction:
    """Probability of the sampled tokens by the trainer over that by the sampler, bounded by a cap.

    Args:
        old_logps: By the trainer with the weights of the rollout, (batch, tokens).
        sampler_logps: As the sampler reported them, at the same temperature.
        mask: True on completion tokens.
        level: Ratio of tokens or of whole answers, see `alignment.onpolicy.losses.log_ratios`.
        cap: Largest weight.
        excess: "truncate" sets larger ratios to the cap, "mask" to 0.

    Raises:
        CodealignError: For unequal shapes, a cap below 1, an unknown level or treatment, or a log-probability
            that is not finite under the mask.
    """
    if not cap >= 1:
        raise CodealignError(f"cap is {cap}: below 1 it would shrink tokens on which both agree")
    if excess not in get_args(Excess):
        raise unknown("treatment of large ratios", excess, get_args(Excess))
    kept = mask.bool()
    for name, values in (("trainer", old_logps), ("sampler", sampler_logps)):
        if not values[kept].isfinite().all():
            raise CodealignError(f"a log-probability of the {name} is not finite under the mask")
    ratio = log_ratios(old_logps, sampler_logps, mask, level).detach().exp()
    over = ratio > cap
    bounded = torch.where(over, cap if excess == "truncate" else 0.0, ratio)
    weights = torch.where(kept, bounded, 0.0)
    unit = kept if level == "token" else kept & (kept.cumsum(-1) == 1)
    gap = (old_logps - sampler_logps).detach()[kept].abs()
    return Correction(weights, _figures(ratio[unit].double(), bounded[unit].double(), over[unit], gap))


def _figures(ratios: Tensor, weights: Tensor, over: Tensor, gap: Tensor) -> dict[str, float]:
    names = ("mean", "max", "p99", "over_cap", "effective_share", "logp_gap")
    if not len(ratios):
        return dict.fromkeys(names, float("nan"))
    squares = (weights**2).sum().item()
    place = max(-(-99 * len(ratios) // 100), 1)  # torch.quantile refuses more than 16 M values
    return {
        "mean": ratios.mean().item(),
        "max": ratios.max().item(),
        "p99": ratios.kthvalue(place).values.item(),
        "over_cap": over.double().mean().item(),
        "effective_share": weights.sum().item() ** 2 / (len(weights) * squares) if squares else 0.0,
        "logp_gap": gap.mean().item(),
    }
