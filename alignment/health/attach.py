"""Run health for any trainer of transformers or TRL: one call, `watched(trainer, folder, options)`.

A callback alone cannot keep a spoiled loss from the weights, so methods of the trainer are wrapped:
`training_step` (tokens are counted, steps are passed over after a rewind), `compute_loss` (phase forward),
the writer of checkpoints (phase save), and the accelerator's `backward` (phase backward, the loss is
judged). Loops of their own take `loops.watching`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from alignment.compat import checkpoint_writer
from alignment.health.checkpoints import newest_usable, seal
from alignment.health.events import FOLDER
from alignment.health.loops import Watch
from alignment.health.mfu import model_flops_utilisation, peak_flops, token_flops
from alignment.health.monitor import Monitor
from alignment.health.options import HealthOptions


@contextlib.contextmanager
def watched(
    trainer: Any, run: Path, options: HealthOptions | None = None, *, checkpoints: Path | None = None
) -> Iterator[Monitor]:
    """Watches what a trainer does within.

    Args:
        trainer: A trainer of transformers or TRL.
        run: The run directory; `health/` in it is written to.
        options: What to watch.
        checkpoints: Where the trainer's checkpoints lie, if not in the run directory.
    """
    options = options or HealthOptions()
    args = trainer.args
    if args.save_total_limit == 1:
        args.save_total_limit = 2
        if args.process_index == 0:
            print("save_total_limit: 2 checkpoints are kept, so that one is always whole", file=sys.stderr)
    monitor = Monitor(run / FOLDER, args.process_index, args.world_size, options)
    health = Health(trainer, monitor, checkpoints or run, notes=checkpoints or monitor.folder)
    trainer.add_callback(health)
    health.wrap()
    try:
        with monitor:
            yield monitor
    finally:
        health.unwrap()
        trainer.remove_callback(health)


def resume_point(root: Path) -> Path | None:
    """The newest whole checkpoint, the same for all processes; torn ones are said and set aside.

    Only the first process reads and checks the files: they may be many gigabytes.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    found: list[str | None] = [None]
    if PartialState().is_main_process:
        newest = newest_usable(root)
        found = [str(newest) if newest else None]
    broadcast_object_list(found, from_process=0)
    return Path(found[0]) if found[0] else None


def seal_checkpoint(args: Any, state: Any, *, hashes: bool = True) -> None:
    """Makes the checkpoint of this step whole, once every process has written its part."""
    from accelerate import PartialState

    PartialState().wait_for_everyone()
    if state.is_world_process_zero:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}", hashes=hashes)
    PartialState().wait_for_everyone()


class Health(TrainerCallback):  # type: ignore[misc]
    """The callback, and the trainer's wrapped methods; see `watched`."""

    def __init__(self, trainer: Any, monitor: Monitor, checkpoints: Path, *, notes: Path) -> None:
        self.trainer, self.monitor = trainer, monitor
        self.watch = Watch(monitor, checkpoints, notes)
        self.spoiled = False
        self.judged: Any = None
        self.saving = 0.0
        self.tokens = 0
        self.tokens_since = time.monotonic()
        self.flops: float | None = None
        self.peak = self._peak()

    def wrap(self) -> None:
        """Puts our steps around the trainer's."""
        trainer = self.trainer
        self.step, self.loss = trainer.training_step, trainer.compute_loss
        self.backward = trainer.accelerator.backward
        self.writer = checkpoint_writer(trainer)
        trainer.training_step, trainer.compute_loss = self._training_step, self._compute_loss
        if self.writer is not None:
            self.save = getattr(trainer, self.writer)
            setattr(trainer, self.writer, self._save_checkpoint)
        trainer.accelerator.backward = self._backward
        if torch.cuda.is_available():
            self.monitor.device_memory = torch.cuda.memory_allocated

    def unwrap(self) -> None:
        """Gives the trainer its own methods back."""
        for owner, name in (
            (self.trainer, "training_step"),
            (self.trainer, "compute_loss"),
            (self.trainer, self.writer),
            (self.trainer.accelerator, "backward"),
        ):
            owner.__dict__.pop(str(name), None)

    def _training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        number = self.trainer.state.global_step + 1
        if self.watch.passes_over(number):
            self.spoiled = True
            return torch.zeros((), device=self.trainer.args.device)
        self._count(inputs)
        return self.step(model, inputs, *rest, **more)

    def _compute_loss(self, *rest: Any, **more: Any) -> Any:
        if not self.trainer.model.training:
            return self.loss(*rest, **more)
        self.monitor.mark("forward")
        found = self.loss(*rest, **more)
        # As it is, not yet divided by the number of passes of a step.
        self.judged = (found[0] if isinstance(found, tuple) else found).detach()
        return found

    def _save_checkpoint(self, *rest: Any, **more: Any) -> Any:
        self.monitor.mark("save")  # until `on_save`, where it is whole
        self.saving = time.monotonic()
        return self.save(*rest, **more)

    def _backward(self, loss: Any, **more: Any) -> None:
        self.monitor.mark("backward")
        number = self.trainer.state.global_step + 1
        mean = self._mean(self.judged if self.judged is not None else loss.detach())
        allowed = self.watch.allows(mean, number)
        # With float16 the gradient scaler skips such an update itself, and needs to see it.
        if not allowed and self.trainer.accelerator.scaler is None:
            self.spoiled = True
            return
        self.backward(loss, **more)

    def _mean(self, loss: Any) -> float:
        """The loss's mean over all processes; not finite where one of them has none."""
        value = loss.float().mean().reshape(1).clone()
        return float(self.trainer.accelerator.reduce(value, "mean"))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The batches are loaded."""
        self.spoiled = False
        self.monitor.mark("forward")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients are there: those of a spoiled step are thrown away, whole."""
        self.monitor.mark("optimizer")
        if self.spoiled:
            self.trainer.model_wrapped.zero_grad()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A step is done."""
        self.monitor.step_done(state.global_step, state.max_steps)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One of several backward passes of a step is done."""
        self.monitor.mark("forward")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """An evaluation is done."""
        self.monitor.mark("data")

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A batch of an evaluation is done."""
        self.monitor.mark("eval")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A checkpoint is written."""
        self.watch.saved(state.global_step, time.monotonic() - self.saving)
        self.monitor.mark("data")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Metrics are written: throughput goes with them."""
        if logs is None or "loss" not in logs or not self.tokens:
            return
        seconds = time.monotonic() - self.tokens_since
        rate = self.tokens * self.monitor.world / max(seconds, 1e-9)
        self.tokens, self.tokens_since = 0, time.monotonic()
        self.monitor.tokens_per_second = rate
        if self.flops is not None and self.peak is not None:
            self.monitor.mfu = model_flops_utilisation(rate, self.flops, self.peak, self.monitor.world)

    def _count(self, inputs: Any) -> None:
        """Tokens of this process's batch; the other ranks' batches are taken to be alike."""
        ids = inputs.get("input_ids")
        if ids is None:
            return
        mask = inputs.get("attention_mask")
        number = int(mask.sum()) if mask is not None and mask.shape == ids.shape else ids.numel()
        self.tokens += number
        if self.flops is None:
            self.flops = self._token_flops(number / max(1, ids.shape[0]))

    def _token_flops(self, length: float) -> float | None:
        config = getattr(self.trainer.model, "config", None)
        text: Any = config.get_text_config() if config is not None else None
        if not all(hasattr(text, name) for name in ("num_hidden_layers", "hidden_size")):
            return None
        # Under ZeRO-3 a process holds parts; DeepSpeed knows the whole.
        count = sum(getattr(p, "ds_numel", p.numel()) for p in self.trainer.model.parameters())
        return token_flops(count, text.num_hidden_layers, text.hidden_size, length)

    def _peak(self) -> float | None:
        given = self.monitor.options.peak_tflops
        if given is not None:
            return given * 1e12
        device = self.trainer.args.device
        return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
