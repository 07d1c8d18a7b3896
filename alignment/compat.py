"""Where versions of torch, transformers, TRL, Accelerate and DeepSpeed differ, or have to be helped.

One module, so that a new version means looking here. `LOWEST` and `NEWEST` are the ends that were tried;
`constraints-lowest.txt` pins the lower one for `make test-lowest`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LOWEST: Mapping[str, str] = {
    "torch": "2.13.0",
    "transformers": "5.0.0",
    "trl": "1.16.0",
    "peft": "0.18.0",
    "accelerate": "1.12.0",
    "datasets": "4.7.0",
}
"""The lowest versions that were tried, see constraints-lowest.txt."""

NEWEST: Mapping[str, str] = {
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "trl": "1.16.0",
    "peft": "0.21.2",
    "accelerate": "1.15.0",
    "datasets": "5.2.0",
    "deepspeed": "0.19.8",
}
"""The newest versions that were tried, see constraints.txt."""


def untried() -> dict[str, str]:
    """Installed versions outside of what was tried, by package: "VERSION (tried: LOWEST to NEWEST)"."""
    found = {}
    for name, newest in NEWEST.items():
        lowest = LOWEST.get(name, newest)
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
        if not _key(lowest) <= _key(installed) <= _key(newest):
            found[name] = f"{installed} (tried: {lowest} to {newest})"
    return found


def _key(text: str) -> tuple[int, ...]:
    parts = []
    for part in text.split(".")[:3]:
        digits = "".join(c for c in part if c.isdigit())
        parts.append(int(digits or 0))
    return tuple(parts)


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


def checkpoint_writer(trainer: Any) -> str | None:
    """Name of the trainer's method that writes a checkpoint folder; None where it has none of that name."""
    return "_save_checkpoint" if hasattr(trainer, "_save_checkpoint") else None
