"""The step of processes that each hold the whole model: gradients are summed, all else is done alike."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from alignment.engines import Whole
from alignment.ranks import Ranks


class Summing(Whole):
    """As `engines.Stepping`, alone or data parallel, without a wrapper of the model.

    Losses of all ranks add up: nothing is averaged. Ranks may pass different numbers of parts.

    Args:
        model: What is trained.
        optimizer: Of its trained parameters.
        ranks: The processes.
    """

    def __init__(self, model: nn.Module, optimizer: Any, ranks: Ranks) -> None:
        super().__init__(model, model, optimizer)
        self.ranks = ranks

    def accumulating(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """As `Stepping.accumulating`; what is exchanged is so in `clip`."""
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        """As `Stepping.backward`."""
        loss.backward()

    def clip(self, most: float) -> float:
        """As `Stepping.clip`."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.ranks.add_gradients(parameters)
        return float(torch.nn.utils.clip_grad_norm_(parameters, most))
