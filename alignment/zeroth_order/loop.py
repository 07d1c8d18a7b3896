"""A whole run: batches in a fixed order, steps, log, snapshots; killed anywhere, it goes on bit for bit."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alignment.health.checkpoints import newest_usable
from alignment.health.guard import Rewind
from alignment.health.loops import Watch, drop_rows_after
from alignment.health.monitor import phase
from alignment.ranks import ALONE, Ranks
from alignment.zeroth_order.estimators import Values
from alignment.zeroth_order.snapshots import load_snapshot, save_snapshot
from alignment.zeroth_order.steplog import Step, StepLog
from alignment.zeroth_order.trainer import ZerothOrder
from codegen_eval.jsonl import read_jsonl
from codegen_eval.runs import RunDir

STEPS = "steps.jsonl"
_GROWN = 0.1  # beyond twice the loss of the start, so that a start near 0 warns of nothing


class Objective(Protocol):
    """What is made small: values of rows, by their numbers, at the weights as they are."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __call__(self, rows: Sequence[int]) -> Values:
        """Values of these rows, or one value for all of them."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, on what, and how often to speak.

    Attributes:
        steps: Steps of the whole run.
        rate: Learning rate of each step by its number from 0.
        batch: Rows that are evaluated at once by each process.
        micro_batches: Such batches a process evaluates a step.
        seed: Of the rows' order.
        log_every: Steps between rows of metrics.jsonl.
        save_every: Steps between snapshots.
        reward: Whether the objective is minus a reward, which is what is shown then.
    """

    steps: int
    rate: Callable[[int], float]
    batch: int
    micro_batches: int = 1
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    reward: bool = False


def batch_rows(rows: int, step: int, size: int, seed: int) -> list[int]:
    """Row numbers of a step's batch: passes over all rows behind one another, each in an order of its own."""
    found = []
    for place in range(step * size, (step + 1) * size):
        epoch, position = divmod(place, rows)
        found.append(int(_order(rows, seed, epoch)[position]))
    return found


_orders: dict[tuple[int, int, int], Any] = {}


def _order(rows: int, seed: int, epoch: int) -> Any:
    key = (rows, seed, epoch)
    if key not in _orders:
        if len(_orders) > 4:
            _orders.clear()
        _orders[key] = np.random.default_rng([seed, 0xDA7A, epoch]).permutation(rows)
    return _orders[key]


def train(
    directory: RunDir,
    trainer: ZerothOrder,
    objective: Objective,
    plan: Plan,
    rows_hash: str,
    watch: Watch | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Goes from wherever the run is to its last step.

    Args:
        directory: The run directory; steps.jsonl, metrics.jsonl and snapshots appear in it.
        trainer: At its starting weights.
        objective: See there.
        plan: See there.
        rows_hash: Of the rows, part of what a log must agree in.
        watch: Of the run's health; None watches nothing.
        ranks: The processes that share each batch.

    Returns:
        Closing figures.

    Raises:
        CodealignError: As `StepLog.open`, `ZerothOrder.step` and `Watch.allows`.
    """
    log = StepLog(directory.path / STEPS, {**trainer.header(), "rows": rows_hash, "seed": plan.seed})
    if ranks.first:
        log.open()
    ranks.together()
    steps = log.open()
    ranks.together()  # nobody adds to the log while another one still reads it
    _take_up(directory.path, trainer, steps, ranks)
    history = _History(directory if ranks.first else None, plan, steps)
    size = plan.batch * plan.micro_batches
    started, before = time.perf_counter(), trainer.done
    for number in range(trainer.done, plan.steps):
        rows = batch_rows(len(objective), number, size * ranks.world, plan.seed)
        rows = rows[ranks.rank * size : (ranks.rank + 1) * size]

        def evaluate(rows: Sequence[int] = rows) -> Values:
            values: list[float | None] = []
            for begin in range(0, len(rows), plan.batch):
                with phase("forward"):
                    values += objective(rows[begin : begin + plan.batch])
            # All values, in the order of the ranks: each forms the same factor from them.
            return [value for part in ranks.gathered(values) for value in part]

        step = _step(trainer, plan.rate(number), evaluate, log if ranks.first else None, watch)
        if watch is not None:
            watch.step_done(trainer.done, plan.steps)
        history.add(step, (time.perf_counter() - started) / (trainer.done - before))
        if trainer.done % plan.save_every == 0 and trainer.done < plan.steps:
            with contextlib.nullcontext(True) if watch is None else watch.saving(trainer.done) as hashes:
                save_snapshot(
                    directory.path, trainer.weights, trainer.done, hashes=hashes, writes=ranks.first
                )
    return history.closing()


def _step(
    trainer: ZerothOrder,
    rate: float,
    evaluate: Callable[[], Values],
    log: StepLog | None,
    watch: Watch | None,
) -> Step:
    """One step under watch. A rewind cuts the log, which is the checkpoint, back to the one that it names."""

    def record(step: Step) -> None:
        if log is not None:
            log.append([step])

    if watch is None:
        return trainer.step(rate, evaluate, record)
    if watch.passes_over(trainer.done + 1):
        return trainer.pass_over(rate, record)
    try:
        # All but the forward passes and waiting for the values of other ranks: directions, weights.
        with phase("update"):
            return trainer.step(rate, evaluate, record, watch.allows)
    except Rewind as back:
        if log is not None:
            drop_rows_after(log.path.with_name("metrics.jsonl"), back.checkpoint)
            log.cut(back.checkpoint)
        raise


def _take_up(folder: Path, trainer: ZerothOrder, steps: Sequence[Step], ranks: Ranks) -> None:
    if not steps:
        return
    ranks.led(lambda: newest_usable(folder, most=len(steps)))  # a torn one is said, and out of the way
    trainer.done = load_snapshot(folder, trainer.weights, len(steps))
    begun = trainer.done
    how = f"{'a snapshot and ' if begun else ''}{len(steps) - begun} replayed"
    print(f"going on after {len(steps)} steps: {how}", file=sys.stderr)
    trainer.replay(steps[begun:])


class _History:
    """All steps so far, and a row of metrics for each whole window of them, whenever it was interrupted."""

    def __init__(self, directory: RunDir | None, plan: Plan, steps: Sequence[Step]) -> None:
        self.steps: list[Step] = []
        self._directory = directory
        self._plan = plan
        self._told = 0
        self._warned = False
        if directory is not None and (directory.path / "metrics.jsonl").exists():
            rows = read_jsonl(directory.path / "metrics.jsonl")
            self._told = max((int(row["step"]) for row in rows if "step" in row), default=0)
        for step in steps:
            self.add(step, None)

    def add(self, step: Step, seconds: float | None) -> None:
        self.steps.append(step)
        count, every = len(self.steps), self._plan.log_every
        if self._directory is None or count <= self._told or (count % every and count < self._plan.steps):
            return
        window = self.steps[(count - 1) // every * every : count]
        row = {"step": count, **means(window, reward=self._plan.reward)}
        if seconds is not None:
            row["seconds_per_step"] = seconds
        self._directory.log(**row)
        name = "reward" if self._plan.reward else "loss"
        skipped = f"  {row['skipped']:.0f} skipped" if row["skipped"] else ""
        print(
            f"step {count}/{self._plan.steps}  {name} {row[name]:.4f}  |factor| {row['factor']:.3g}{skipped}",
            file=sys.stderr,
        )
        self._warn_of_growth(row[name])

    def _warn_of_growth(self, now: float) -> None:
        """Says once, in plain words, that a loss has grown: a rate too high shows in nothing else here."""
        start = means(self.steps[: self._plan.log_every], reward=self._plan.reward)
        if self._plan.reward or self._warned or not now > 2 * abs(start["loss"]) + _GROWN:
            return
        self._warned = True
        print(
            f"warning: the loss is {now:.3g} and was {start['loss']:.3g} at the start: the steps are too "
            "long. Lower learning_rate, or average more directions.",
            file=sys.stderr,
        )

    def closing(self) -> dict[str, Any]:
        last = means(self.steps[-self._plan.log_every :], reward=self._plan.reward)
        name = "reward" if self._plan.reward else "loss"
        return {
            "steps": len(self.steps),
            name: last[name],
            "skipped": sum(step.skipped for step in self.steps),
        }


def means(steps: Sequence[Step], *, reward: bool) -> dict[str, float]:
    """Means over steps: the loss (or reward), the rate, the size of the factors, and directions skipped."""
    losses = [step.loss for step in steps if math.isfinite(step.loss)]
    factors = [abs(factor) for step in steps for _, factor in step.moves if factor is not None]
    mean = sum(losses) / len(losses) if losses else math.nan
    return {
        "reward" if reward else "loss": -mean if reward else mean,
        "learning_rate": steps[-1].rate,
        "factor": sum(factors) / len(factors) if factors else math.nan,
        "skipped": float(sum(step.skipped for step in steps)),
    }
