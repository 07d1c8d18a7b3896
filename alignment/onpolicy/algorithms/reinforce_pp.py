"""REINFORCE++ (Hu 2025, arXiv 2501.03262): returns by token with the KL in them, whitened over the batch.

`group_baseline` is its variant for several samples a prompt: the group's mean comes off first, then the
batch's deviation, and the KL is a k2 term of the loss. Both with PPO's clipped loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from torch import Tensor

from alignment.onpolicy.advantages import reinforce_pp_baseline_advantages
from alignment.onpolicy.algorithms.base import Algorithm, TokenLoss
from alignment.onpolicy.algorithms.grpo import with_kl_loss
from alignment.onpolicy.batch import Experience, Part
from alignment.onpolicy.options import OnPolicyOptions
from alignment.onpolicy.rows import group_valid
from codegen_eval.errors import CodealignError


class ReinforcePP(Algorithm):
    """Whitened returns, no critic."""

    name = "reinforce_pp"
    reads = frozenset({"group_baseline", "whiten_advantages", "whiten_variance", "gamma", "kl_form"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "policy_loss": "clipped",
        "loss_aggregation": "token_mean",
        "whiten_advantages": True,
    }

    @classmethod
    def defaults_for(cls, options: OnPolicyOptions) -> dict[str, Any]:
        """The variant with groups takes four samples and k2."""
        found = super().defaults_for(options)
        return found | ({"num_generations": 4, "kl_estimator": "k2"} if options.group_baseline else {})

    def check(self, given: Collection[str]) -> None:
        """The variant needs groups, and its own way of whitening.

        Raises:
            CodealignError: For one sample a prompt with `group_baseline`, or an option that it does not read.
        """
        n = self.options.num_generations or 1
        if self.options.group_baseline and n < 2:
            raise CodealignError(f"num_generations is {n}: group_baseline needs 2 or more samples a prompt")
        unread = sorted({"whiten_advantages", "whiten_variance", "kl_form"} & set(given))
        if self.options.group_baseline and unread:
            raise CodealignError(f"--{unread[0]} does nothing with group_baseline; leave it out")

    def keep(self, e: Experience) -> Tensor:
        """With groups, rows that are not alone."""
        return group_valid(e.valid, e.num_generations) if self.options.group_baseline else e.valid

    def advantages(self, e: Experience) -> Tensor:
        """Whitened returns; with groups, the standardised distance from the group's mean."""
        if self.options.group_baseline:
            rewards, valid = e.gather(e.rewards), e.gather(e.valid)
            whole = e.own(reinforce_pp_baseline_advantages(rewards, e.num_generations, valid))
            return self.by_token(e, whole, kl=False)
        returns = self.by_token(e, e.rewards)
        return self.whitened(e, returns) if self.options.whiten_advantages else returns

    def loss(self, scores: Mapping[str, Tensor], part: Part) -> TokenLoss:
        """The clipped loss; with groups plus the KL."""
        loss = super().loss(scores, part)
        if not self.options.group_baseline:
            return loss
        return with_kl_loss(loss, scores, part, self.options.kl_estimator or "k2")
