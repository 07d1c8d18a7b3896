"""Parameters divided as ZeRO-3 divides them, without DeepSpeed and without other processes."""

from __future__ import annotations

import torch

from tests.alignment.zeroth_order.small import Small


def divided(rank: int, world: int) -> Small:
    """A process's model: shares are in `ds_tensor`, padded to one size; `data` is what it would gather."""
    model = Small()
    for number, parameter in enumerate(model.parameters()):
        parameter.ds_id, parameter.ds_shape = number, parameter.shape
        parameter.ds_numel = parameter.numel()
        size = -(-parameter.numel() // world)
        padded = torch.full((size * world,), 7.0)
        padded[: parameter.numel()] = parameter.data.flatten()
        parameter.ds_tensor = padded[rank * size : (rank + 1) * size].clone()
        parameter.ds_tensor.ds_numel = size
        parameter.ds_zero_partition_rank = rank
        parameter.nvme_swapper = parameter.ds_secondary_tensor = None
    return model


def joined(models: list[Small]) -> list[torch.Tensor]:
    """The weights that the shares of all processes make, and the padding behind them, by parameter."""
    parts = zip(*(model.parameters() for model in models), strict=True)
    return [torch.cat([p.ds_tensor for p in part]) for part in parts]
