"""Options of `codealign train reward`: TRL's ScriptArguments, RewardConfig and ModelConfig, and ours."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError, unknown


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


@dataclass(frozen=True, slots=True)
class Options:
    """The parsed options, and those that the user set."""

    script: Any
    training: Any
    model: Any
    ensemble: EnsembleArguments
    given: dict[str, Any]


def parse(argv: Sequence[str]) -> Options:
    """Reads `--config FILE` and flags; flags win.

    Raises:
        CodealignError: For an unknown key (with the nearest name), a missing file or required option, or a
            value with which training would run for nothing.
    """
    from trl import ModelConfig, RewardConfig, ScriptArguments, TrlParser

    words = [word for word in argv if word != "--overwrite"]
    classes = (ScriptArguments, RewardConfig, ModelConfig, EnsembleArguments)
    known = {name for cls in classes for name in cls.__dataclass_fields__}
    given = given_options(words)
    for key in given:
        if key not in known:
            raise unknown("config key", key, known)
    for required in ("model_name_or_path", "dataset_name", "output_dir"):
        if not given.get(required):
            raise CodealignError(f"--{required} is required (on the command line or in the recipe)")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = TrlParser(classes).parse_args_and_config(words)
    except (ValueError, TypeError) as error:
        raise CodealignError(f"the training options do not fit: {error}") from None
    except SystemExit as stop:
        if not stop.code:
            raise
        # The parser prints all its options first; what is wrong stands last.
        reason = (said.getvalue().strip().splitlines() or ["?"])[-1].partition("error: ")[2]
        raise CodealignError(f"the training options do not fit: {reason}") from None
    script, training, model, ensemble = parsed
    options = Options(script, training, model, ensemble, given)
    _check(options)
    return options


def _check(options: Options) -> None:
    """Refuses numbers that TRL and transformers let pass."""
    training, ensemble = options.training, options.ensemble
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


def given_options(argv: Sequence[str]) -> dict[str, Any]:
    """The keys that the recipe and the flags set; flags win."""
    from codegen_eval.config import read_yaml

    values: dict[str, Any] = {}
    flags: dict[str, Any] = {}
    pending = list(argv)
    while pending:
        word = pending.pop(0)
        if not word.startswith("--"):
            continue
        key, _, value = word[2:].partition("=")
        taken = [value] if value else []
        while "=" not in word and pending and not pending[0].startswith("--"):
            taken.append(pending.pop(0))
        flags[key.replace("-", "_")] = taken[0] if len(taken) == 1 else taken
    if "config" in flags:
        values = read_yaml(Path(str(flags.pop("config"))))
        values.pop("env", None)
    return {**values, **flags}
