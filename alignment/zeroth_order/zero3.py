"""ZeRO-3: DeepSpeed divides every parameter over the processes; each moves its own share of each of them.

There is no optimiser: DeepSpeed's engine only fetches a layer's weights for a forward pass and drops them
behind it. Between passes nothing is whole anywhere, so what was moved in a share is what the next pass sees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alignment.divided import gathered, is_divided
from codegen_eval.errors import CodealignError

_OURS = {
    # Small weights that stayed whole in each process would not see what is done to the shares.
    "stage3_param_persistence_threshold": 0,
    "stage3_max_reuse_distance": 0,
}


def is_divided_model(model: torch.nn.Module) -> bool:
    """Whether any parameter of a model is."""
    return any(is_divided(parameter) for parameter in model.parameters())


def share_of(parameter: Any) -> tuple[Tensor, int]:
    """This process's entries of a divided parameter.

    Returns:
        The entries, flat, without the padding of the last share, perhaps none; writing there changes the
        model. And where they begin in the whole, flat parameter.

    Raises:
        CodealignError: For shares on a disk, and where a second copy of them is kept (hpZ).
    """
    if parameter.nvme_swapper is not None or parameter.ds_secondary_tensor is not None:
        raise CodealignError(
            "zeroth-order training moves the weights that a process holds: it cannot do that on NVMe "
            "(offload_param), nor with a second division (zero_hpz_partition_size)"
        )
    size = parameter.ds_tensor.ds_numel
    begin = size * parameter.ds_zero_partition_rank
    return parameter.ds_tensor[: max(0, min(size, parameter.ds_numel - begin))], begin


@contextlib.contextmanager
def loading_as(dtype: str | None) -> Iterator[None]:
    """Within, models keep the dtype that they are loaded with; divided ones DeepSpeed would make float32.

    Args:
        dtype: A torch dtype's name.
    """
    from transformers.integrations.deepspeed import deepspeed_config, is_deepspeed_zero3_enabled

    config = deepspeed_config() if is_deepspeed_zero3_enabled() else None
    if config is None:
        yield
        return
    names = {"bf16": "bfloat16", "fp16": "float16"}
    before = {name: config[name] for name in names if name in config}
    config |= {name: {"enabled": dtype == meant} for name, meant in names.items()}
    try:
        yield
    finally:
        for name in names:
            del config[name]
        config |= before


def widen_adapters(model: Any) -> None:
    """Makes trained adapters float32, as PEFT does elsewhere: TRL leaves them in the model's dtype here."""
    if not hasattr(model, "peft_config"):
        return
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
            if is_divided(parameter):
                parameter.ds_tensor.data = parameter.ds_tensor.data.float()


def divide(model: torch.nn.Module, settings: Mapping[str, Any]) -> None:
    """Divides what of a model is not divided yet, as the first process has it; for use without an engine.

    Args:
        model: In the memory of each process.
        settings: DeepSpeed's configuration of this launch.
    """
    from deepspeed import zero

    zero.Init(module=model, config_dict_or_path=_config(settings))


class Passes:
    """Forward passes of a divided model.

    Args:
        model: Divided already or not.
        settings: DeepSpeed's configuration of this launch.

    Attributes:
        engine: What to call in the model's place, the same number of times in each process.
    """

    def __init__(self, model: torch.nn.Module, settings: Mapping[str, Any]) -> None:
        import deepspeed

        self.engine: Any = deepspeed.initialize(model=model, config=_config(settings))[0]
        self.engine.eval()
        for parameter in model.parameters():
            parameter.ds_persist = False  # an engine before this one, or the loading, may have set it
        self.drop()

    def drop(self) -> None:
        """Drops what a pass has left whole; due before weights are moved."""
        self.engine.optimizer.partition_all_parameters()


def _config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The launch's division of weights, without what belongs to an optimiser or was left to a trainer."""
    zero = {
        name: value
        for name, value in settings["zero_optimization"].items()
        if value != "auto" and name != "offload_optimizer"
    }
    return {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero | _OURS}


def save_model(model: Any, folder: Path, *, writes: bool) -> None:
    """Saves a model as `save_pretrained` does; of adapters what was trained alone.

    Divided weights are made whole one at a time and collected in the main memory of the process that writes.

    Args:
        model: Of all processes, which come here together.
        folder: Where.
        writes: Whether this process writes.
    """
    if not is_divided_model(model):
        if writes:
            model.save_pretrained(folder)
        return
    adapters = hasattr(model, "peft_config")
    whole: dict[int, Tensor] = {}
    state = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if adapters and not tensor.requires_grad:
            continue
        # Tied weights stay one tensor, which is written once.
        if id(tensor) not in whole:
            with gathered([tensor]):
                whole[id(tensor)] = tensor.detach().to("cpu", copy=True) if writes else torch.empty(0)
        state[name] = whole[id(tensor)]
    if writes:
        model.save_pretrained(folder, state_dict=state)
