"""RLOO (Ahmadian et al. 2024, arXiv 2402.14740): reward minus the mean of the prompt's other samples.

The KL, summed over the answer, is part of the reward. The loss is TRL's: an answer's whole ratio is clipped;
on the first pass its gradient is that of REINFORCE. `policy_loss: reinforce` is the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from alignment.onpolicy.advantages import rloo_advantages, shaped_rewards
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience
from alignment.onpolicy.options import OnPolicyOptions
from alignment.onpolicy.rows import group_valid


class RLOO(Algorithm):
    """Leave-one-out baseline of two or more samples a prompt."""

    name = "rloo"
    least_generations = 2
    defaults: ClassVar[Mapping[str, Any]] = {"num_generations": 4, "policy_loss": "clipped"}

    @classmethod
    def defaults_for(cls, options: OnPolicyOptions) -> dict[str, Any]:
        """The answer's ratio with the mean over its tokens, or the plain sum: one gradient at first."""
        found = super().defaults_for(options)
        if options.policy_loss in (None, "clipped") and options.ratio_level in (None, "sequence_sum"):
            found |= {"ratio_level": "sequence_sum", "loss_aggregation": "sequence_mean"}
        return found

    def keep(self, e: Experience) -> Tensor:
        """Rows with a reward that are not alone in their group."""
        return group_valid(e.valid, e.num_generations)

    def advantages(self, e: Experience) -> Tensor:
        """Shaped reward minus that of the others, at every token."""
        shaped = shaped_rewards(e.rewards, self.sequence_kl(e), e.beta)
        return self.by_token(e, rloo_advantages(shaped, e.num_generations, e.valid), kl=False)
