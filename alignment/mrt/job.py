"""Runs of the MRT trainers: one process, checkpoints, metrics that a killed run does not write twice."""

from __future__ import annotations

import os
import shutil
from typing import Any

from alignment.mrt.config import MRTTrainConfig
from alignment.mrt.updates import Updates
from alignment.preference.job import full_disk_named
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole
from codegen_eval.jsonl import dump_row
from codegen_eval.runs import RunDir, read_jsonl

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


def open_run(config: MRTTrainConfig, command: str) -> RunDir:
    """The run directory; see `RunDir.open`.

    Raises:
        CodealignError: As `RunDir.open`, and in a launch of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise CodealignError(
            f"{command} runs in one process, WORLD_SIZE is {os.environ['WORLD_SIZE']}: use --accelerate "
            "single"
        )
    return RunDir.open(
        config.output_dir, command, config.identity(), overwrite=config.overwrite, inputs=config.inputs()
    )


def fresh(config: MRTTrainConfig, model: Any) -> Updates:
    """An optimiser that has made no update."""
    return Updates(
        model,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm,
    )


def save(directory: RunDir, updates: Updates, **more: Any) -> None:
    """Writes the checkpoint.

    Raises:
        CodealignError: For a full disk; the checkpoint before stays.
    """
    with full_disk_named(directory.path):
        updates.save(directory.path / CHECKPOINT, **more)


def rewind(directory: RunDir, round_: int, step: int) -> None:
    """Drops rows of metrics.jsonl that come behind update `step` of a round: they will be written again.

    A round without an update has not begun: all its rows go.
    """
    path = directory.path / METRICS
    if not path.exists():
        return
    rows = list(read_jsonl(path))
    kept = [
        row
        for row in rows
        if row["round"] < round_ or (step and (row["round"], row["step"]) <= (round_, step))
    ]
    if len(kept) < len(rows):
        write_whole(path, map(dump_row, kept))


def conclude(directory: RunDir, model: Any, tokenizer: Any, round_: int, step: int) -> None:
    """Saves the model, whole or not at all, and finishes the run."""
    target, part = directory.path / "model", directory.path / ".tmp.model"
    shutil.rmtree(part, ignore_errors=True)
    with full_disk_named(directory.path):
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    directory.finish(round=round_, step=step)
