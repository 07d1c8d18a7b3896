"""Runs of the MRT trainers: checkpoints, and metrics that a killed run does not write twice.

Of several processes the first alone writes; the others wait for it, and end with its error.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alignment.health.checkpoints import begin, finish, newest_usable, prune
from alignment.health.loops import Watch
from alignment.mrt.config import MRTTrainConfig
from alignment.mrt.updates import Updates
from alignment.preference.job import full_disk_named
from alignment.ranks import Ranks
from codegen_eval.files import write_whole
from codegen_eval.jsonl import dump_row
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl

METRICS = "metrics.jsonl"
KEPT = 2
"""Checkpoints that are kept, so that one is whole should the newest be torn."""


def open_run(config: MRTTrainConfig, command: str, ranks: Ranks) -> RunDir:
    """The run directory, which the first rank holds for all; see `RunDir.open`.

    Several processes are part of what makes a run: a batch is theirs together.

    Raises:
        CodealignError: As `RunDir.open`, in all ranks.
    """
    several = {"processes": ranks.world} if ranks.world > 1 else {}
    return ranks.led(
        lambda: RunDir.open(
            config.output_dir,
            command,
            {**config.identity(), **several},
            overwrite=config.overwrite,
            inputs=config.inputs(),
        )
    )


def fresh(config: MRTTrainConfig, model: Any, ranks: Ranks) -> Updates:
    """An optimiser that has made no update."""
    return Updates(
        model,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm,
        ranks=ranks,
    )


def made_together(
    directory: RunDir, name: str, parts: int, make: Callable[[int], list[Any]], ranks: Ranks, title: str
) -> list[dict[str, Any]]:
    """The rows of `RunDir.build`: the first rank says which part is missing, and all make it together.

    Args:
        directory: The run directory.
        name: The file's name without its ending.
        parts: Number of pieces.
        make: A piece's rows by its number, the same in every rank.
        ranks: Who makes them.
        title: Of the progress bar.

    Raises:
        CodealignError: As `RunDir.build` in the first rank, whose end ends the launch; as `make` in all.
    """

    def produce(pending: list[int]) -> Iterator[tuple[int, list[Any]]]:
        for part in track(pending, len(pending), title):
            ranks.told(part)
            yield part, make(part)

    target = directory.path / f"{name}.jsonl"
    if ranks.first:
        directory.build(name, parts, produce)
        ranks.told(None)
    else:
        while (part := ranks.told(None)) is not None:
            make(part)
    return ranks.led(lambda: list(read_jsonl(target)))


def save(directory: RunDir, updates: Updates, done: int, watch: Watch, **more: Any) -> None:
    """Writes a checkpoint; all ranks call it.

    Args:
        directory: The run directory.
        updates: Their state.
        done: Updates of all rounds, the checkpoint's number.
        watch: Of the run's health.
        more: Plain values, for `take_up` to give back.

    Raises:
        CodealignError: For a full disk, in all ranks; the checkpoint before stays.
    """
    target, ranks = directory.path / f"checkpoint-{done}", updates.ranks

    @full_disk_named(directory.path)
    def opened() -> Path:
        return begin(target)

    @full_disk_named(directory.path)
    def write(part: Path) -> None:
        updates.save(part, **more)

    @full_disk_named(directory.path)
    def seal(hashes: bool) -> None:
        finish(target, hashes=hashes)
        prune(directory.path, KEPT)

    with watch.saving(done) as hashes:
        part = ranks.led(opened)
        try:
            ranks.each(lambda: write(part))
            ranks.led(lambda: seal(hashes))
        except BaseException:
            # A full disk must not be kept full by the half that was written.
            shutil.rmtree(part, ignore_errors=True)
            raise


def take_up(directory: RunDir, updates: Updates) -> dict[str, Any] | None:
    """Loads the newest whole checkpoint and gives what was saved beside it; None where there is none.

    All ranks load the one that the first found.
    """
    found = updates.ranks.led(lambda: newest_usable(directory.path))
    more = None if found is None else updates.load(found)
    updates.ranks.together()  # nobody prunes a checkpoint that another one still reads
    return more


def rewind(directory: RunDir, round_: int, step: int) -> None:
    """Drops rows of metrics.jsonl that come behind update `step` of a round: they will be written again.

    A round without an update has not begun: all its rows go. For the first rank alone.
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


def conclude(directory: RunDir, updates: Updates, tokenizer: Any, round_: int, step: int) -> None:
    """Saves the model, whole or not at all, and finishes the run; the other ranks wait for the first."""
    target, part = directory.path / "model", directory.path / ".tmp.model"

    def write() -> None:
        shutil.rmtree(part, ignore_errors=True)
        with full_disk_named(directory.path):
            updates.module.save_pretrained(part)
            tokenizer.save_pretrained(part)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        directory.finish(round=round_, step=step)

    with updates.whole():
        updates.ranks.led(write)
