"""Norms of every step's gradient, before clipping, into a run directory: what schedules are refined from.

transformers logs the L2 norm of some steps; a schedule for Adam wants L1 norms, and of every step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from alignment.schedules import NORMS
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import dump_row, plain


def norms(gradients: Iterable[Tensor | None]) -> tuple[float, float]:
    """L1 and L2 norm of all gradients together, summed in float64."""
    absolute, squares = 0.0, 0.0
    for gradient in gradients:
        if gradient is not None:
            absolute += float(gradient.detach().abs().sum(dtype=torch.float64))
            squares += float(gradient.detach().double().square().sum())
    return absolute, squares**0.5


class GradientNorms(TrainerCallback):  # type: ignore[misc]
    """Appends `step`, `l1` and `l2` to gradient_norms.jsonl at every step.

    Under DDP the gradients are averaged by then, so every process has the same; one writes.

    Args:
        trainer: A transformers trainer; its clipping is watched, for afterwards the norms are gone.
        folder: The run directory.

    Raises:
        CodealignError: Under DeepSpeed or FSDP, where a process holds a share of the gradients.
    """

    def __init__(self, trainer: Any, folder: Path) -> None:
        if trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled:
            raise CodealignError(
                "log_gradient_norms is not made for DeepSpeed and FSDP, which spread the gradients over "
                "processes: log them in a run with --accelerate single or ddp"
            )
        self._path = folder / NORMS
        self._seen: tuple[float, float] | None = None
        self._model = trainer.model
        accelerator = trainer.accelerator
        clip = accelerator.clip_grad_norm_

        def clipped(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            parameters = list(parameters)
            accelerator.unscale_gradients()
            self._seen = norms(p.grad for p in parameters)
            return clip(parameters, *args, **kwargs)

        accelerator.clip_grad_norm_ = clipped

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Drops what a killed run wrote after the checkpoint that it goes on from."""
        if not state.is_world_process_zero:
            return
        rows = [row for row in _rows(self._path) if row["step"] <= state.global_step]
        temporary = self._path.with_name(f".tmp.{self._path.name}")
        temporary.write_bytes(b"".join(map(dump_row, rows)))
        temporary.replace(self._path)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called with the gradients in place; clipped ones only where clipping was seen."""
        if self._seen is None:
            self._seen = norms(p.grad for p in self._model.parameters())
        if state.is_world_process_zero:
            l1, l2 = self._seen
            row = plain({"step": state.global_step + 1, "l1": l1, "l2": l2}, finite=True)
            with self._path.open("ab") as file:
                file.write(dump_row(row))
        self._seen = None


def _rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may end in a torn one."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]
