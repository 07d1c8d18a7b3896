"""The KL coefficient over training: fixed, or adaptive (Ziegler et al. 2019, arXiv 1909.08593, eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from codegen_eval.errors import CodealignError

LARGEST_ERROR = 0.2


class KLController(Protocol):
    """What the trainer asks: the coefficient now, a word after each step, and a state for checkpoints."""

    beta: float

    def update(self, kl: float, samples: int) -> None:
        """Tells the mean KL of a step and how many answers it had."""

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Takes it back."""


def adapted_beta(beta: float, kl: float, target: float, samples: int, horizon: int) -> float:
    """Gives beta (1 + clip(kl / target - 1, +-0.2) samples / horizon).

    Args:
        beta: Coefficient now.
        kl: Mean KL of the answers, in the target's unit. Nats a sequence and nats a token are other numbers:
            a target from a framework that feeds token means cannot be carried over.
        target: Wished KL, above 0.
        samples: Answers of this step.
        horizon: Answers over which an error of 0.2 changes beta by about a fifth.

    Raises:
        CodealignError: For a KL that is not finite, or a target, horizon or number of samples not above 0.
    """
    if not math.isfinite(kl):
        raise CodealignError(
            f"the KL of this step is {kl}: the policy has gone astray; lower the learning rate"
        )
    if not (target > 0 and horizon > 0 and samples > 0):
        raise CodealignError(f"target {target}, horizon {horizon} and samples {samples} must all be above 0")
    error = min(max(kl / target - 1, -LARGEST_ERROR), LARGEST_ERROR)
    return beta * (1 + error * samples / horizon)


@dataclass
class FixedKL:
    """A coefficient that stays."""

    beta: float

    def __post_init__(self) -> None:
        _check(self.beta)

    def update(self, kl: float, samples: int) -> None:
        """Does nothing: the coefficient is fixed."""

    def state_dict(self) -> dict[str, float]:
        """The coefficient."""
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Refuses a checkpoint of another coefficient: the run would silently change its objective."""
        if state["beta"] != self.beta:
            raise CodealignError(
                f"the checkpoint has a fixed KL coefficient of {state['beta']}, the config {self.beta}"
            )


@dataclass
class AdaptiveKL:
    """A coefficient that follows the KL: it grows above the target and shrinks below it.

    Attributes:
        beta: Now; 0.2 at the start in the first releases.
        target: Nats a sequence.
        horizon: See `adapted_beta`.
    """

    beta: float = 0.2
    target: float = 6.0
    horizon: int = 10_000

    def __post_init__(self) -> None:
        _check(self.beta)
        adapted_beta(self.beta, self.target, self.target, 1, self.horizon)

    def update(self, kl: float, samples: int) -> None:
        """Moves beta by one step of `adapted_beta`."""
        if samples > self.horizon:
            raise CodealignError(
                f"{samples} answers a step are more than the horizon {self.horizon}: raise it, or beta jumps"
            )
        self.beta = adapted_beta(self.beta, kl, self.target, samples, self.horizon)

    def state_dict(self) -> dict[str, float]:
        """The coefficient; target and horizon belong to the config."""
        return {"beta": self.beta}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes on from the checkpoint's coefficient."""
        self.beta = float(state["beta"])


def _check(beta: float) -> None:
    if not (math.isfinite(beta) and beta >= 0):
        raise CodealignError(f"the KL coefficient is {beta}: give a finite number, 0 or more")
