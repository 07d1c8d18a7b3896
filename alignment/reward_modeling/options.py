"""Options of `codealign train reward`: TRL's ScriptArguments, RewardConfig and ModelConfig, and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from alignment.preference.arguments import Arguments
from alignment.preference.arguments import parse as read
from codegen_eval.errors import CodealignError


@dataclass
class EnsembleArguments:
    """What an ensemble has beside TRL's options of one reward model."""

    members: int = field(default=5, metadata={"help": "Number of members, k."})
    vary_head: bool = field(default=True, metadata={"help": "Each member draws its own head (and LoRA's A)."})
    vary_order: bool = field(default=True, metadata={"help": "Each member sees the pairs in its own order."})
    holdout: float = field(
        default=0.1, metadata={"help": "Share of prompts held out for calibration and accuracy."}
    )
    holdout_dataset: str | None = field(
        default=None, metadata={"help": "Pairs held out, instead of a share of the training data."}
    )
    label_noise: float = field(
        default=0.0,
        metadata={"help": "Flip each training label with this probability, the same for all members."},
    )
    reward_l2: float = field(
        default=0.0,
        metadata={"help": "Open-Assistant's regulariser: 0.5 (chosen^2 + rejected^2) times this."},
    )
    calibration_floor: float = field(
        default=0.0, metadata={"help": "Least standard deviation of a member's scale."}
    )
    lam: float = field(default=0.5, metadata={"help": "UWO's lambda in the report of accuracies."})


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; `options` of the result are an `EnsembleArguments`.

    Raises:
        CodealignError: As `preference.arguments.parse`, and for a value with which training would run for
            nothing.
    """
    from trl import RewardConfig

    arguments = read(argv, RewardConfig, EnsembleArguments)
    _check(arguments.training, arguments.options)
    return arguments


def _check(training: Any, ensemble: EnsembleArguments) -> None:
    """Refuses numbers that TRL and transformers let pass."""
    positive = {"learning_rate": training.learning_rate}
    not_negative = {
        "reward_l2": ensemble.reward_l2,
        "calibration_floor": ensemble.calibration_floor,
        "lam": ensemble.lam,
        "center_rewards_coefficient": training.center_rewards_coefficient or 0.0,
    }
    for name, value in (positive | not_negative).items():
        if not math.isfinite(value) or value < 0 or (name in positive and value == 0):
            kind = "above 0" if name in positive else "0 or more"
            raise CodealignError(f"--{name} must be a finite number {kind} (given: {value})")
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size"):
        if getattr(training, name) < 1:
            raise CodealignError(f"--{name} must be 1 or more (given: {getattr(training, name)})")
    if training.eval_strategy != "no":
        raise CodealignError(
            "--eval_strategy: the held-out pairs are scored once, after training, by every member; leave it "
            "at no"
        )
