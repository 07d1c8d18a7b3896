"""The step of processes that each hold the whole model: gradients are summed, all else is done alike."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from alignment.engines import load_weights, trained
from alignment.mrt.ranks import Ranks


class Summing:
    """As `engines.Stepping`, alone or data parallel, without a wrapper of the model.

    Losses of all ranks add up: nothing is averaged. Ranks may pass different numbers of parts.

    Args:
        model: What is trained.
        optimizer: Of its trained parameters.
        ranks: The processes.
    """

    divided = False

    def __init__(self, model: nn.Module, optimizer: Any, ranks: Ranks) -> None:
        self.model, self.optimizer, self.ranks = model, optimizer, ranks

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

    def step(self) -> None:
        """As `Stepping.step`."""
        self.optimizer.step()
        self.drop()

    def drop(self) -> None:
        """As `Stepping.drop`."""
        self.optimizer.zero_grad(set_to_none=True)

    def whole(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """As `Stepping.whole`."""
        return contextlib.nullcontext()

    def weights(self) -> dict[str, Tensor]:
        """As `Stepping.weights`."""
        return {name: parameter.detach() for name, parameter in trained(self.model).items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """As `Stepping.load_weights`."""
        load_weights(trained(self.model), weights)

    def state_dict(self) -> dict[str, Any]:
        """As `Stepping.state_dict`."""
        return dict(self.optimizer.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `Stepping.load_state_dict`."""
        self.optimizer.load_state_dict(state)
