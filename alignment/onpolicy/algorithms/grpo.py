"""GRPO (Shao et al. 2024, arXiv 2402.03300) and Dr. GRPO (Liu et al. 2025, arXiv 2503.20783).

Group mean off, over the group's deviation (`scale_rewards`); clipped ratio by token; KL (k3) in the loss;
mean over each answer's tokens, then over answers. Dr. GRPO is `scale_rewards: none` with `loss_aggregation:
constant`, DAPO's loss `loss_aggregation: token_mean` with `cliprange_high: 0.28`, GSPO's `ratio_level:
sequence_mean`. TRL multiplies the KL by the ratio where it corrects for old samples; here it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from alignment.kl import kl_tokens
from alignment.onpolicy.advantages import grpo_advantages
from alignment.onpolicy.algorithms.base import Algorithm, TokenLoss
from alignment.onpolicy.batch import Experience, Part
from alignment.onpolicy.rows import group_valid


class GRPO(Algorithm):
    """Group-relative advantages, clipped loss."""

    name = "grpo"
    least_generations = 2
    reads = frozenset({"scale_rewards"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "num_generations": 4,
        "policy_loss": "clipped",
        "loss_aggregation": "sequence_mean",
        "kl_estimator": "k3",
        "scale_rewards": "group",
    }

    def keep(self, e: Experience) -> Tensor:
        """Rows with a reward that are not alone in their group."""
        return group_valid(e.valid, e.num_generations)

    def advantages(self, e: Experience) -> Tensor:
        """Standardised rewards, at every token."""
        scale = self.options.scale_rewards or "group"
        rewards, valid = e.gather(e.rewards), e.gather(e.valid)
        whole = e.own(grpo_advantages(rewards, e.num_generations, scale=scale, valid=valid))
        return self.by_token(e, whole, kl=False)

    def loss(self, scores: Mapping[str, Tensor], part: Part) -> TokenLoss:
        """The clipped loss plus the KL's estimate, with gradient."""
        return with_kl_loss(super().loss(scores, part), scores, part, self.options.kl_estimator or "k3")


def with_kl_loss(loss: TokenLoss, scores: Mapping[str, Tensor], part: Part, estimator: str) -> TokenLoss:
    """Adds beta x KL of every token to a policy loss; k3's and k2's gradients, of samples from now."""
    e = part.experience
    if e.ref_logps is None or e.beta == 0:
        return loss
    mask, reference = part.of(e.mask), part.of(e.ref_logps).to(scores["logps"])
    kl = kl_tokens(scores["logps"], reference, estimator)  # type: ignore[arg-type]
    return TokenLoss(loss.policy + e.beta * torch.where(mask, kl, 0.0), loss.value, loss.figures)
