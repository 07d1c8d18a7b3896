"""REINFORCE (Williams 1992): reward minus a baseline of the batch, of earlier steps, or none.

The batch's mean holds the row itself, so the expected gradient is (1 - 1/n) of the true one; a mean of
earlier steps, or no baseline, leaves it whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from alignment.onpolicy.advantages import reinforce_advantages
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience


class Reinforce(Algorithm):
    """Plain policy gradient; the KL is in the advantages."""

    name = "reinforce"
    reads = frozenset({"baseline", "gamma", "discounting", "kl_form"})

    def advantages(self, e: Experience) -> Tensor:
        """Reward minus `baseline`, at every token."""
        if self.options.baseline == "batch":
            whole = e.own(reinforce_advantages(e.gather(e.rewards), e.gather(e.valid)))
        else:
            mean = e.running[0] if self.options.baseline == "running" else 0.0
            whole = torch.where(e.valid, e.rewards - (0.0 if math.isnan(mean) else mean), 0.0)
        return self.by_token(e, whole)
