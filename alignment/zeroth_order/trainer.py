"""MeZO (Malladi et al. 2023, arXiv 2305.17333) and Sparse MeZO (arXiv 2402.15751): steps and their replay.

Two evaluations a direction, the weights moved in place by noise drawn anew from its seed: no gradient, no
optimiser state, no copy of the weights. Departures from the authors' code: a generator of its own (theirs
reseeds the global one, and with it data and sampling); factors and rates have nine digits, as in the log;
`directions` averages several; the ranking oracle (arXiv 2303.03751) as another way from values to factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment.health.monitor import phase
from alignment.zeroth_order.estimators import (
    Values,
    paired_mean,
    ranking_coefficients,
    rounded,
    spsa_coefficient,
)
from alignment.zeroth_order.steplog import Step, read
from alignment.zeroth_order.weights import Mover, stream, trained_weights
from codegen_eval.errors import CodealignError

PATIENCE = 50
"""Steps in a row without any finite factor after which a run ends: nothing is being learned."""

Evaluate = Callable[[], Values]
"""The objective of this step's batch at the weights as they are now, lower is better, one value a row."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a step depends on beside weights, data and rate; the log's header holds it.

    Attributes:
        eps: How far the weights are moved to look.
        directions: Directions a step.
        estimator: `spsa` looks at +eps and -eps along each; `ranking` at +eps alone and uses the order.
        ranking_keep: For `ranking`, how many of the best are ordered.
        weight_decay: Times the rate, on matrices alone.
        sparsity: Share of each matrix's weights that stay, see masks.py.
        mask_every: Steps for which a mask is kept.
    """

    eps: float = 1e-3
    directions: int = 1
    estimator: str = "spsa"
    ranking_keep: int = 1
    weight_decay: float = 0.0
    sparsity: float = 0.0
    mask_every: int = 1


class ZerothOrder:
    """A model's trained weights and how many steps they have gone.

    Args:
        model: Its parameters that want a gradient are trained.
        settings: See there.
        seed: Of all directions.

    Raises:
        CodealignError: As `weights.trained_weights`, and for a sparsity outside [0, 1).
    """

    def __init__(self, model: Any, settings: Settings, seed: int = 0) -> None:
        self.settings = settings
        self.seed = seed
        self.weights = trained_weights(model)
        self.mover = Mover(self.weights, settings.sparsity)
        self.done = 0
        self._idle = 0

    def header(self) -> dict[str, Any]:
        """What a log must agree in to be replayed here."""
        names = Settings.__slots__
        settings = {name: getattr(self.settings, name) for name in names}
        return {**settings, "stream": stream(self.weights)}

    def step(
        self,
        rate: float,
        evaluate: Evaluate,
        record: Callable[[Step], None],
        allows: Callable[[float, int], bool] = lambda loss, step: True,
    ) -> Step:
        """Looks, records, moves.

        Args:
            rate: Learning rate.
            evaluate: Called twice a direction (once for `ranking`), always on the same batch.
            record: Is told of the step before the weights go: what it keeps can be replayed.
            allows: Given the loss (NaN without any finite factor) and the step's number from 1, whether the
                weights may go; where not, the step is recorded as one without factors.

        Raises:
            CodealignError: After `PATIENCE` steps in a row without a finite factor; as `allows`.
        """
        self._masks()
        seeds = direction_seeds(self.seed, self.done, self.settings.directions)
        ranking = self.settings.estimator == "ranking"
        losses, factors = (self._ranked if ranking else self._differences)(seeds, evaluate)
        finite = [loss for loss in losses if math.isfinite(loss)]
        loss = rounded(sum(finite) / len(finite), 6) if finite else math.nan
        known = any(factor is not None for factor in factors)
        if not allows(loss if known else math.nan, self.done + 1):
            factors = [None] * len(seeds)
        step = Step(rounded(rate), loss, tuple(zip(seeds, factors, strict=True)))
        record(step)
        self._move(step)
        self._idle = self._idle + 1 if step.skipped == len(step.moves) else 0
        if self._idle >= PATIENCE:
            raise CodealignError(
                f"{PATIENCE} steps in a row had no finite value, the last at step {self.done}: lower "
                f"learning_rate ({rate:g}) or eps ({self.settings.eps:g}), and start anew with --overwrite"
            )
        return step

    def pass_over(self, rate: float, record: Callable[[Step], None]) -> Step:
        """A step without evaluation or factors, as a replay would take it: rounded as if it had looked."""
        seeds = direction_seeds(self.seed, self.done, self.settings.directions)
        step = Step(rounded(rate), math.nan, tuple((seed, None) for seed in seeds))
        record(step)
        self.replay([step])
        return step

    def replay(self, steps: Sequence[Step]) -> None:
        """Takes the weights through logged steps, with the roundings of their evaluations."""
        eps = self.settings.eps
        shifts = (eps, -eps) if self.settings.estimator == "ranking" else (eps, -2 * eps, eps)
        for step in steps:
            with phase("update"):  # a sign of progress each: a long log takes a while
                self._masks()
                for seed, _ in step.moves:
                    self.mover.round_trip(seed, shifts)
                self._move(step)

    def _differences(self, seeds: Sequence[int], evaluate: Evaluate) -> tuple[list[float], list[Any]]:
        eps = self.settings.eps
        losses: list[float] = []
        factors: list[Any] = []
        for seed in seeds:
            self.mover.shift(seed, eps)
            plus = evaluate()
            self.mover.shift(seed, -2 * eps)
            minus = evaluate()
            self.mover.shift(seed, eps)
            values = paired_mean(plus, minus)
            losses += values
            factors.append(spsa_coefficient(*values, eps, len(seeds)))
        return losses, factors

    def _ranked(self, seeds: Sequence[int], evaluate: Evaluate) -> tuple[list[float], list[Any]]:
        eps, found = self.settings.eps, []
        for seed in seeds:
            self.mover.shift(seed, eps)
            found.append(evaluate())
            self.mover.shift(seed, -eps)
        # Candidates are compared on the rows that all of them have.
        whole = [i for i in range(len(found[0])) if all(values[i] is not None for values in found)]
        losses = [
            sum(float(values[i] or 0.0) for i in whole) / len(whole) if whole else math.nan
            for values in found
        ]
        return losses, ranking_coefficients(losses, self.settings.ranking_keep)

    def _masks(self) -> None:
        if self.settings.sparsity and self.done % self.settings.mask_every == 0:
            self.mover.refresh_masks()

    def _move(self, step: Step) -> None:
        """Theta <- theta - rate * (sum of factor * z + weight_decay * theta)."""
        moves = [(seed, factor) for seed, factor in step.moves if factor is not None]
        if moves and self.settings.weight_decay:
            self.mover.decay(1 - step.rate * self.settings.weight_decay)
        for seed, factor in moves:
            self.mover.shift(seed, -step.rate * factor)
        self.done += 1


def direction_seeds(seed: int, step: int, count: int) -> list[int]:
    """Seeds of a step's directions, 31 bits each: a function of run and step, not of earlier draws."""
    state = np.random.SeedSequence([seed, 0x5EED, step]).generate_state(count)
    return [int(value) & 0x7FFFFFFF for value in state]


def replay_log(model: Any, path: Path) -> int:
    """Takes a model from the weights that a run began with to those that it ended with, by its log alone.

    Args:
        model: The starting model, on the kind of device that trained.
        path: The run's steps.jsonl.

    Returns:
        The number of steps.

    Raises:
        CodealignError: For a broken log, or one of other weights or another device.
    """
    header, steps = read(path)
    trainer = ZerothOrder(model, Settings(**{name: header[name] for name in Settings.__slots__}))
    if header["stream"] != trainer.header()["stream"]:
        raise CodealignError(
            f"{path} was written for other weights or another device: its seeds mean other directions here"
        )
    trainer.replay(steps)
    return len(steps)
