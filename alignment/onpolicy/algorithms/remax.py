"""ReMax (Li et al. 2023, arXiv 2310.10505, algorithm 1): the greedy answer's reward as the baseline.

Sequence sum, mean over answers, one update a rollout, as in the paper's algorithm; its repository takes token
means, gamma 0.99 (`discounting: repo`), a clip of the difference (`advantage_clip: 5`) and the KL at one
token alone (`kl_form: one_step`). Several samples may share a prompt's greedy answer; `policy_loss: clipped`
allows several updates, as verl has it, and is then REINFORCE no longer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.onpolicy.advantages import remax_advantages
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience
from alignment.onpolicy.rows import remax_valid


class ReMax(Algorithm):
    """REINFORCE against the greedy answer; the KL is in the advantages and never in the baseline."""

    name = "remax"
    needs_greedy = True
    reads = frozenset({"advantage_clip", "gamma", "discounting", "kl_form"})

    def keep(self, e: Experience) -> Tensor:
        """Rows with a reward whose prompt's greedy answer has one, too."""
        return remax_valid(e.valid, _greedy(e.greedy_valid), e.num_generations)

    def advantages(self, e: Experience) -> Tensor:
        """Reward minus that of the greedy answer, at every token."""
        whole = remax_advantages(
            e.rewards,
            _greedy(e.greedy_rewards),
            e.num_generations,
            clip=self.options.advantage_clip,
            valid=e.valid,
            greedy_valid=e.greedy_valid,
        )
        return self.by_token(e, whole)


def _greedy(tensor: Tensor | None) -> Tensor:
    assert isinstance(tensor, torch.Tensor), "the trainer draws greedy answers where they are needed"
    return tensor
