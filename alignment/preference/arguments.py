"""Recipes and flags of the preference trainers: TRL's dataclasses and ours, unknown keys refused."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from alignment.health.options import HealthOptions
from alignment.preference.help import options_help, wanted
from alignment.processes import check_processes, end_with_launcher, launch_flags
from codegen_eval.errors import CodealignError, unknown

_IDLE = ("hub_strategy", "hub_always_push", "hub_revision")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What a training command was told.

    Attributes:
        script: TRL's ScriptArguments: the data.
        training: TRL's config of the method.
        model: TRL's ModelConfig: model, dtype, adapters.
        options: Ours.
        given: The keys that were set, by recipe or flag.
        overwrite: Whether to start the run anew.
        health: Options of run health.
        push_to_hub: Whether to push the trained model to `training.hub_model_id` in the end.
    """

    script: Any
    training: Any
    model: Any
    options: Any
    given: dict[str, Any]
    overwrite: bool
    health: HealthOptions = field(default_factory=HealthOptions)
    push_to_hub: bool = False


def parse(
    argv: Sequence[str],
    config_class: type,
    options_class: type,
    accepts: Callable[[str], bool] = lambda name: True,
) -> Arguments:
    """Reads `--config FILE` and flags; flags win.

    Args:
        argv: The command line.
        config_class: TRL's config of the method.
        options_class: Our options of it.
        accepts: Whether the method takes an option of this name, for its help; the caller refuses others.

    Raises:
        SystemExit: With status 0 after `--help`.
        CodealignError: For an unknown key (with the nearest name), a missing file, a missing required option,
            or a value that does not fit.
    """
    end_with_launcher()
    from trl import ModelConfig, ScriptArguments, TrlParser

    words = [word for word in argv if word != "--overwrite"]
    classes = (ScriptArguments, config_class, ModelConfig, options_class, HealthOptions)
    if wanted(argv):
        print(options_help(classes, lambda name: name not in _IDLE and accepts(name)))
        raise SystemExit(0)
    known = {part.name for cls in classes for part in fields(cls)}
    given = _given(words)
    for key in given:
        if key not in known:
            raise unknown("config key", key, known)
    for key in _IDLE:
        if key in given:
            raise CodealignError(f"--{key} does nothing here: the model's folder is pushed once, in the end")
    for required in ("model_name_or_path", "dataset_name", "output_dir"):
        if not given.get(required):
            raise CodealignError(f"--{required} is required (on the command line or in the recipe)")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parts = TrlParser(classes).parse_args_and_config([*words, *launch_flags(given, known)])
    except CodealignError:
        raise
    except (ValueError, TypeError) as error:
        raise CodealignError(f"the training options do not fit: {error}") from None
    except SystemExit as stop:
        if not stop.code:
            raise
        # The parser prints all its options first; what is wrong stands last.
        reason = (said.getvalue().strip().splitlines() or ["?"])[-1].partition("error: ")[2]
        raise CodealignError(f"the training options do not fit: {reason}") from None
    script, training, model, options, health = parts
    _check_numbers(training)
    from alignment.cards import check_push

    check_processes(training)
    push = check_push(training)
    return Arguments(script, training, model, options, given, "--overwrite" in argv, health, push)


def _check_numbers(training: Any) -> None:
    """Refuses values with which training would run for nothing; TRL and transformers let them pass."""
    for name in ("beta", "learning_rate"):
        value = getattr(training, name, 1.0)  # a reward model has no beta
        if not (math.isfinite(value) and value > 0):
            raise CodealignError(f"--{name} must be a finite number above 0 (given: {value})")
    if training.per_device_train_batch_size < 1 or training.gradient_accumulation_steps < 1:
        raise CodealignError(
            "--per_device_train_batch_size and --gradient_accumulation_steps must be 1 or more (given: "
            f"{training.per_device_train_batch_size}, {training.gradient_accumulation_steps})"
        )


def _given(argv: Sequence[str]) -> dict[str, Any]:
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
        if not value and pending and not pending[0].startswith("--"):
            value = pending.pop(0)
        flags[key.replace("-", "_")] = value
    if "config" in flags:
        values = read_yaml(Path(flags.pop("config")))
        values.pop("env", None)
    return {**values, **flags}
