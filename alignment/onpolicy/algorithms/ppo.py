"""PPO for language models (Schulman et al. 2017, arXiv 1707.06347; Ouyang et al. 2022, arXiv 2203.02155).

Reward by token: -beta x KL everywhere, the score on the last token. GAE with gamma 1 and lambda 0.95,
returns before whitening, both clips, four epochs: the values of TRL's last PPO trainer. The value after the
last token is 0. The critic starts with a head of zeros; `critic_warmup_steps` lets it learn alone at first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from torch import Tensor

from alignment.onpolicy.algorithms.base import Algorithm, TokenLoss
from alignment.onpolicy.batch import Experience, Part
from alignment.onpolicy.gae import gae, token_rewards
from alignment.onpolicy.losses import value_losses
from codegen_eval.errors import CodealignError


class PPO(Algorithm):
    """Clipped surrogate with a critic."""

    name = "ppo"
    needs_value = True
    reads = frozenset(
        {
            *("gamma", "lam", "whiten_advantages", "whiten_rewards", "whiten_variance", "value_model"),
            *("value_model_path", "value_learning_rate", "vf_coef", "cliprange_value", "critic_warmup_steps"),
        }
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "num_ppo_epochs": 4,
        "policy_loss": "clipped",
        "loss_aggregation": "token_mean",
        "whiten_advantages": True,
    }

    def check(self, given: Collection[str]) -> None:
        """A start for the critic needs a critic of its own.

        Raises:
            CodealignError: For `value_model_path` with a head on the policy's trunk.
        """
        o = self.options
        if o.value_model_path and o.value_model == "head":
            raise CodealignError("value_model_path is the start of a critic: set value_model critic")

    def advantages(self, e: Experience) -> Tensor:
        """GAE over the critic's values; `e.returns` are taken before whitening."""
        o = self.options
        rewards = token_rewards(
            e.rewards, e.mask, self.kl(e), beta=e.beta if e.ref_logps is not None else 0.0
        )
        if o.whiten_rewards:
            rewards = self.whitened(e, rewards, shift_mean=False)
        assert e.values is not None, "the trainer computes values where they are needed"
        advantages, e.returns = gae(rewards, e.values.to(rewards), e.mask, gamma=o.gamma, lam=o.lam)
        return self.whitened(e, advantages) if o.whiten_advantages else advantages

    def loss(self, scores: Mapping[str, Tensor], part: Part) -> TokenLoss:
        """The clipped policy loss, and the critic's."""
        policy = super().loss(scores, part)
        e, mask = part.experience, part.of(part.experience.mask)
        values = scores["values"]
        result = value_losses(
            values,
            part.of(e.values).to(values),
            part.of(e.returns).to(values),
            mask,
            clip=self.options.cliprange_value,
        )
        clipped = result.clipped[mask]
        figures = {"value_clip_fraction": clipped.mean().item()} if len(clipped) else {}
        return TokenLoss(policy.policy, result.losses, {**policy.figures, **figures})
