"""Bradley-Terry training of one member, by TRL's RewardTrainer.

TRL's trainer and not a loop of our own: its loss is the one wanted (-log sigmoid of the difference, with an
optional centring term), it takes rows that are tokenised already, and it brings DDP, ZeRO, FSDP, adapters,
checkpoints and trackers. There is no speed to win by a loop: a scalar head has no logits to save. One term is
added, Open-Assistant's 0.5 x (chosen^2 + rejected^2), which the ensemble paper trained with.
"""

from __future__ import annotations

import copy
import gc
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback
from trl import RewardTrainer

from alignment.compat import next_accelerator
from alignment.health.attach import resume_point, seal_checkpoint, watched
from alignment.health.options import HealthOptions
from alignment.preference.job import full_disk_named, memory_named
from alignment.reward_modeling.data import Pair, token_rows
from alignment.reward_modeling.members import MemberNote, Seeds

Log = Callable[..., None]


class PairwiseTrainer(RewardTrainer):  # type: ignore[misc]
    """RewardTrainer with Open-Assistant's regulariser; `reward_l2` is its coefficient."""

    reward_l2 = 0.0

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, plus `reward_l2` x 0.5 (chosen^2 + rejected^2), mean over pairs."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.reward_l2:
            # Chosen and rejected are stacked: the mean over rows is half the sum over a pair's sides.
            loss = loss + self.reward_l2 * outputs.logits.float().pow(2).mean()
        return (loss, outputs) if return_outputs else loss


class MemberLog(TrainerCallback):  # type: ignore[misc]
    """Writes a member's log rows, says them in one line, and marks whole checkpoints."""

    def __init__(self, member: int, log: Log, *, hashes: bool = True) -> None:
        self.member = member
        self.hashes = hashes
        self.write = log
        self.started = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Called by the trainer with averaged metrics."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        self.write(**{**logs, "member": self.member, "step": state.global_step})
        print(
            f"member {self.member}  step {state.global_step}/{state.max_steps}  "
            f"loss {float(logs['loss']):.4f}  accuracy {float(logs['accuracy']):.2f}  "
            f"margin {float(logs['margin']):.2f}  {time.perf_counter() - self.started:.0f} s",
            file=sys.stderr,
        )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when a checkpoint folder is written."""
        seal_checkpoint(args, state, hashes=self.hashes)


def member_arguments(training: Any, seeds: Seeds, folder: Path) -> Any:
    """TRL's arguments for one member: its seeds, its folder of checkpoints."""
    arguments = copy.copy(training)
    arguments.output_dir = str(folder)
    arguments.seed = seeds.head
    arguments.data_seed = seeds.order
    return arguments


def make_trainer(
    model: Any,
    tokenizer: Any,
    arguments: Any,
    pairs: list[Pair],
    *,
    reward_l2: float = 0.0,
    callbacks: list[Any] | None = None,
) -> tuple[Any, int]:
    """The trainer of one member, and how many pairs were too long for it.

    Raises:
        CodealignError: If no pair is short enough.
    """
    from datasets import Dataset

    rows, dropped = token_rows(pairs, tokenizer, arguments.max_length)
    trainer = PairwiseTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=callbacks or [],
    )
    trainer.reward_l2 = reward_l2
    trainer.remove_callback(PrinterCallback)
    return trainer, dropped


def train_member(
    trainer: Any,
    checkpoints: Path,
    target: Path,
    note: MemberNote,
    tokenizer: Any,
    health: HealthOptions | None = None,
) -> None:
    """Trains, or goes on from the last whole checkpoint, and leaves the member in `target`.

    The note is written last; the checkpoints are removed after it. The run's folder, two above the
    checkpoints, gets the beats.
    """
    checkpoint, run = resume_point(checkpoints), checkpoints.parent.parent
    with (
        full_disk_named(run),
        memory_named(trainer.args),
        watched(trainer, run, health, checkpoints=checkpoints),
    ):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        trainer.save_model(str(target))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(target))
        (target / "training_args.bin").unlink(missing_ok=True)  # a pickle that nobody reads
        note.write(target)
        shutil.rmtree(checkpoints, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()


def release(trainer: Any) -> None:
    """Gives a member's memory back before the next one is loaded."""
    import torch

    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    if trainer.is_deepspeed_enabled:
        next_accelerator()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
