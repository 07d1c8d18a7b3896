"""Runs of the MRT trainers: one process, checkpoints, metrics that a killed run does not write twice."""

from __future__ import annotations

import os
import shutil
from typing import Any

from alignment.health.checkpoints import newest_usable, prune, save_whole
from alignment.health.loops import Watch
from alignment.mrt.config import MRTTrainConfig
from alignment.mrt.updates import Updates
from alignment.preference.job import full_disk_named
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole
from codegen_eval.jsonl import dump_row
from codegen_eval.runs import RunDir, read_jsonl

STATE = "state.pt"
METRICS = "metrics.jsonl"
KEPT = 2
"""Checkpoints that are kept, so that one is whole should the newest be torn."""


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


def save(directory: RunDir, updates: Updates, done: int, watch: Watch, **more: Any) -> None:
    """Writes a checkpoint.

    Args:
        directory: The run directory.
        updates: Their state.
        done: Updates of all rounds, the checkpoint's number.
        watch: Of the run's health.
        more: Plain values, for `take_up` to give back.

    Raises:
        CodealignError: For a full disk; the checkpoint before stays.
    """
    target = directory.path / f"checkpoint-{done}"
    with full_disk_named(directory.path), watch.saving(done) as hashes:
        save_whole(target, lambda folder: updates.save(folder / STATE, **more), hashes=hashes)
        prune(directory.path, KEPT)


def take_up(directory: RunDir, updates: Updates) -> dict[str, Any] | None:
    """Loads the newest whole checkpoint and gives what was saved beside it; None where there is none."""
    found = newest_usable(directory.path)
    return None if found is None else updates.load(found / STATE)


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
