"""What a run stands on: processes, optimiser, schedule, trackers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from alignment.compat import next_accelerator, plain_loading
from alignment.engines import Engine, Plain, Zero, check_zero
from alignment.onpolicy.options import OnPolicyConfig
from alignment.onpolicy.policy import ActorCritic
from codegen_eval.errors import CodealignError, unknown

SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
TRACKERS = ("tensorboard", "wandb", "trackio")


def trackers(report_to: str | Sequence[str]) -> list[str]:
    """The trackers that `report_to` names, as one text with commas or as a list.

    Raises:
        CodealignError: For an unknown one, or one that is not installed.
    """
    given = report_to.split(",") if isinstance(report_to, str) else report_to
    names = [name.strip() for name in given if name.strip() not in ("", "none")]
    for name in names:
        if name not in TRACKERS:
            raise unknown("tracker", name, (*TRACKERS, "none"))
        if find_spec(name) is None:
            raise CodealignError(f"report_to {name}: it is not installed; pip install {name}, or set none")
    return names


def accelerator_for(config: OnPolicyConfig, folder: Path | None) -> Any:
    """The Accelerator of these processes, its trackers started.

    Raises:
        CodealignError: For trackers that are not there, bf16 where it cannot be, or a division of the work
            that does not go.
    """
    from accelerate import Accelerator

    names = trackers(config.report_to)
    next_accelerator()  # an earlier run in this process may have made one
    _ = config.distributed_state  # the first to be asked makes it, and here it gets the backend
    accelerator = Accelerator(
        cpu=config.use_cpu,
        mixed_precision="bf16" if config.bf16 else "no",
        log_with=names or None,
        project_dir=None if folder is None else str(folder),
    )
    kind = str(getattr(accelerator.distributed_type, "value", accelerator.distributed_type))
    if kind == "DEEPSPEED":
        check_zero(accelerator.state.deepspeed_plugin.deepspeed_config, "on-policy training")
        plain_loading()
    elif kind not in ("NO", "MULTI_CPU", "MULTI_GPU"):
        raise CodealignError(
            f"on-policy training runs on one process, data parallel, or with ZeRO (got {kind}): take "
            "--accelerate single, ddp, zero2 or zero3"
        )
    if names:
        plain = {k: v for k, v in vars(config).items() if isinstance(v, int | float | str | bool)}
        accelerator.init_trackers("codealign", plain)
    return accelerator


def optimizer_for(module: ActorCritic, config: OnPolicyConfig, value_rate: float | None) -> Any:
    """AdamW over four groups: policy and critic, each with and without weight decay.

    Args:
        module: Policy and critic.
        config: Rates and moments.
        value_rate: The critic's learning rate; None for the policy's.
    """
    policy, critic = module.groups()
    if not policy:
        raise CodealignError("the policy has no weights to train: every parameter is frozen")
    groups = []
    for part, parameters, rate in (
        ("policy", policy, config.learning_rate),
        ("critic", critic, value_rate or config.learning_rate),
    ):
        for decayed in (True, False):
            # Biases and norms are vectors.
            chosen = [p for p in parameters if (p.dim() > 1) == decayed]
            if chosen:
                decay = config.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "part": part})
    return torch.optim.AdamW(
        groups, betas=(config.adam_beta1, config.adam_beta2), eps=config.adam_epsilon, foreach=False
    )


def schedule_for(optimizer: Any, config: OnPolicyConfig) -> Any:
    """A schedule of transformers over training steps.

    Raises:
        CodealignError: For a name that is not supported, or warm-up in a schedule without one.
    """
    from transformers import get_scheduler

    name = config.lr_scheduler_type
    if name not in SCHEDULES:
        raise unknown("lr_scheduler_type", name, SCHEDULES)
    if config.warmup_steps and name == "constant":
        raise CodealignError("warmup_steps does nothing in the schedule constant: take constant_with_warmup")
    return get_scheduler(name, optimizer, config.warmup_steps, config.max_steps)


def engine_for(module: ActorCritic, optimizer: Any, accelerator: Any, config: OnPolicyConfig) -> Engine:
    """The engine of this launch."""
    if getattr(accelerator.state, "deepspeed_plugin", None) is None:
        return Plain(module, optimizer, accelerator)
    rows = config.per_device_train_batch_size
    return Zero(module, optimizer, accelerator, rows=rows, bf16=config.bf16)
