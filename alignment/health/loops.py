"""Run health for loops of their own, and what they share with trainers of transformers: losses, slow saves.

with watching(run, options) as watch:
    for step in range(first, steps + 1):
        if not watch.passes_over(step):  # after a rewind
            with phase("update"):
                loss = ...
                if watch.allows(loss, step):
                    optimizer.step()
        watch.step_done(step, steps)
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from alignment.health import guard as guards
from alignment.health.checkpoints import newest_whole, step_of
from alignment.health.events import FOLDER
from alignment.health.monitor import Monitor, phase
from alignment.health.options import HealthOptions
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole


@contextlib.contextmanager
def watching(
    run: Path,
    options: HealthOptions | None = None,
    *,
    rank: int = 0,
    world: int = 1,
    patience: int = guards.IN_A_ROW,
) -> Iterator[Watch]:
    """Watches what this process does within, as one rank of a run.

    Args:
        run: The run directory, with the checkpoints in it; `health/` in it is written to.
        options: What to watch.
        rank: This process's number.
        world: Number of processes.
        patience: See `Watch`.
    """
    import torch

    monitor = Monitor(run / FOLDER, rank, world, options)
    if torch.cuda.is_available():
        monitor.device_memory = torch.cuda.memory_allocated
    watch = Watch(monitor, run, patience=patience)
    with monitor:
        yield watch


class Watch:
    """Answers losses as the options say: go on, skip the update, go back, stop.

    Args:
        monitor: Of this process.
        checkpoints: Folder of the `checkpoint-STEP` folders that a rewind goes back to.
        notes: Folder of the note on steps that are passed over; default the monitor's.
        patience: So many losses in a row that are not finite end the run where they are skipped.
    """

    def __init__(
        self,
        monitor: Monitor,
        checkpoints: Path,
        notes: Path | None = None,
        *,
        patience: int = guards.IN_A_ROW,
    ) -> None:
        self.monitor, self.checkpoints = monitor, checkpoints
        self.notes = notes or monitor.folder
        self.guard = guards.LossGuard(monitor.options.on_nan, monitor.options.on_spike, patience)
        self.ranges = guards.skip_ranges(self.notes)
        self._stepped = time.monotonic()

    def allows(self, loss: float, step: int) -> bool:
        """Whether the update may be made.

        Args:
            loss: The mean over all processes, so that all of them decide alike.
            step: The step it belongs to; the first is 1.

        Raises:
            Rewind: Where the options want to go back.
            CodealignError: Where they want to stop, and after too many losses that are not finite.
        """
        kind, action = self.guard.judge(loss)
        self.monitor.loss = loss
        if kind == "good":
            return True
        what = "is not finite" if kind == "nan" else f"jumped to {loss:.4g}"
        if self.monitor.rank == 0:
            threshold = self.guard.threshold()
            self.monitor.event(kind, step=step, loss=str(loss), threshold=threshold, action=action)
            print(f"step {step}: the loss {what}; {_DONE[action]}", file=sys.stderr, flush=True)
        if action == "stop":
            raise CodealignError(
                f"step {step}: the loss {what}; stopped as --on_{kind} says. Whole checkpoints are kept: the "
                f"same command with --on_{kind} skip or rewind goes on"
            )
        if action == "rewind":
            self._rewind(step)
        return action != "skip"

    def _rewind(self, step: int) -> None:
        found = [0]
        if self.monitor.rank == 0:
            newest = newest_whole(self.checkpoints)
            found = [step_of(newest) if newest else 0]
        if self.monitor.world > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(found, from_process=0)
        if self.monitor.rank == 0:
            guards.note_rewind(self.notes, found[0], step)
            self.monitor.event("rewind", step=step, checkpoint=found[0])
        raise guards.Rewind(
            f"back to step {found[0]}; the batches up to that of step {step} will be passed over. The same "
            "command goes on (codealign train --max-restarts N does so by itself)",
            found[0],
        )

    def passes_over(self, step: int) -> bool:
        """Whether this step is one of those that a rewind goes past; the first step is 1."""
        return guards.passed_over(step, self.ranges)

    def step_done(self, step: int, max_steps: int = 0, tokens: int = 0) -> None:
        """Says that a step is done.

        Args:
            step: Its number.
            max_steps: Of the whole run; 0 where unknown.
            tokens: Tokens of this process that it was trained on; the other ranks' are taken to be alike.
        """
        now = time.monotonic()
        if tokens:
            self.monitor.tokens_per_second = tokens * self.monitor.world / max(now - self._stepped, 1e-9)
        self._stepped = now
        self.monitor.step_done(step, max_steps)

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[bool]:
        """Phase `save`; gives whether to hash the files, and tells a disk that was slow."""
        began = time.monotonic()
        with phase("save"):
            yield self.monitor.options.checkpoint_hashes
        self.saved(step, time.monotonic() - began)

    def saved(self, step: int, seconds: float) -> None:
        """Tells a checkpoint that took long."""
        if self.monitor.rank or seconds <= self.monitor.options.slow_save_seconds:
            return
        self.monitor.event("slow_save", step=step, seconds=seconds)
        print(
            f"the checkpoint of step {step} took {seconds:.0f} s; a faster disk, or fewer save_steps, would "
            "help",
            file=sys.stderr,
        )


def drop_rows_after(path: Path, step: int) -> None:
    """Keeps the rows of a JSONL file that belong to steps up to `step`; a torn last line goes, too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if line.endswith(b"\n") and row.get("step", 0) <= step:
            kept.append(line)
    write_whole(path, kept)


_DONE = {
    "warn": "it is trained on all the same (--on_nan, --on_spike)",
    "skip": "the update is skipped",
    "rewind": "the run goes back to the checkpoint before",
    "stop": "the run stops",
}
