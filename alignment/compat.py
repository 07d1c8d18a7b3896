"""Where versions of torch, transformers, TRL, Accelerate and DeepSpeed differ, or have to be helped.

One module, so that a new version means looking here. `constraints.txt` pins the versions that everything is
tried with, `constraints-lowest.txt` the lowest that pyproject.toml allows (`make test-lowest`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def next_accelerator() -> None:
    """Lets a process make another Accelerator: Accelerate takes a DeepSpeed plugin for the first only."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()


def plain_loading() -> None:
    """From now on models are loaded whole, by this process alone, even if the training was ZeRO-3.

    transformers remembers the DeepSpeed configuration of a process, and would divide every further model over
    all of them; whoever loads one alone waits for the others for ever.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def without_compiled_collectives() -> None:
    """DeepSpeed on the CPU compiles an all-reduce at its first start, for minutes; gloo does the same.

    Raises:
        ImportError: Without DeepSpeed.
    """
    from deepspeed import ops

    ops.__compatible_ops__["deepspeed_shm_comm"] = False


@contextlib.contextmanager
def without_zero3_hooks(engine: Any) -> Iterator[None]:
    """Takes DeepSpeed's hooks off a ZeRO-3 engine's layers for a while, as TRL does around `generate`."""
    from trl.models.utils import add_hooks, remove_hooks  # TRL exports them in `unwrap_model_for_generation`

    remove_hooks(engine)
    try:
        yield
    finally:
        add_hooks(engine)


def checkpoint_writer(trainer: Any) -> str | None:
    """Name of the trainer's method that writes a checkpoint folder; None where it has none of that name."""
    return "_save_checkpoint" if hasattr(trainer, "_save_checkpoint") else None
