"""Options of zeroth-order training: TRL's names with defaults that fit it, and ours; idle options refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trl import DPOConfig

from alignment.health.options import NAMES as HEALTH_OPTIONS
from alignment.preference.arguments import Arguments
from alignment.preference.arguments import parse as read
from alignment.preference.objective import defaults, objective_of
from alignment.preference.options import PairOptions
from alignment.zeroth_order.trainer import Settings
from codegen_eval.errors import CodealignError

ESTIMATORS = ("spsa", "ranking")

_ALWAYS = {
    "output_dir", "dataset_name", "dataset_train_split", "model_name_or_path", "model_revision", "dtype",
    "attn_implementation", "use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules",
    "lora_target_parameters", "lora_modules_to_save", "lora_task_type", "use_rslora", "use_dora",
    "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps",
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay",
    "max_length", "push_to_hub", "hub_model_id", "hub_private_repo", "hub_token", "seed", "use_cpu", "bf16",
    "fp16", "logging_steps", "save_steps", "report_to", "disable_tqdm", "gradient_checkpointing",
    "ddp_backend", "ddp_timeout", "lr_schedule_file", "eps", "directions", "estimator", "ranking_keep",
    "sparsity", "mask_every", "reward", *(name for name in HEALTH_OPTIONS if name != "peak_tflops"),
}  # fmt: skip
_WITH_LOSS = {
    "loss_type", "loss_weights", "beta", "label_smoothing", "ld_alpha", "f_divergence_type",
    "f_alpha_divergence_coef", "discopop_tau", "use_weighting", "precompute_ref_log_probs",
    "precompute_ref_batch_size", "padding_free", "pad_to_multiple_of", "dataset_num_proc", "loss_options",
    "weight_column", "append_eos", "reference_cache", "confidence_as", "shared_prompt",
}  # fmt: skip
_WITH_REWARD = {"max_completion_length", "problems", "workers"}


@dataclass
class ZerothOrderConfig(DPOConfig):  # type: ignore[misc]
    """TRL's DPOConfig with MeZO's defaults."""

    learning_rate: float = field(default=1e-6, metadata={"help": "Rate; MeZO's for whole models is 1e-6."})
    lr_scheduler_type: str = field(default="constant", metadata={"help": "Schedule of the rate."})
    bf16: bool = field(default=False, metadata={"help": "Must stay false: see eps."})
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Must stay false: no gradient."})
    weight_decay: float = field(default=0.0, metadata={"help": "Times the rate; not for biases and norms."})
    precompute_ref_log_probs: bool = field(
        default=True, metadata={"help": "Whether the reference runs once, before training."}
    )


@dataclass
class ZerothOrderOptions(PairOptions):
    """Options beside TRL's."""

    eps: float = field(
        default=1e-3,
        metadata={"help": "How far the weights are moved to look: 1e-3 for models, 1e-2 for adapters."},
    )
    directions: int = field(
        default=1, metadata={"help": "Random directions a step; their factors are averaged."}
    )
    estimator: str = field(
        default="spsa",
        metadata={
            "help": "spsa: differences at +eps and -eps. ranking: the order of the values at +eps alone.",
            "choices": list(ESTIMATORS),
        },
    )
    ranking_keep: int = field(
        default=1, metadata={"help": "For ranking: how many of the best directions are ordered."}
    )
    sparsity: float = field(
        default=0.0,
        metadata={"help": "Sparse MeZO: share of each matrix's weights, the large ones, that stay."},
    )
    mask_every: int = field(default=1, metadata={"help": "Steps for which a sparse mask is kept."})
    reward: str | None = field(
        default=None,
        metadata={
            "help": "Instead of a loss: pass_rate, binary or coderl (greedy programs on its tests), "
            "or MODULE:FUNCTION, a reward function in TRL's form."
        },
    )
    problems: int | None = field(default=None, metadata={"help": "With reward: only the first N rows."})
    max_completion_length: int = field(
        default=256,
        metadata={"help": "With reward: where a greedy completion ends at the latest, in tokens."},
    )
    workers: int | None = field(default=None, metadata={"help": "Sandbox processes; default one a core."})


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags.

    Raises:
        CodealignError: As `preference.arguments.parse`; for options that do nothing here, or values that
            cannot train.
    """
    known = _ALWAYS | _WITH_LOSS | _WITH_REWARD
    arguments = read(argv, ZerothOrderConfig, ZerothOrderOptions, lambda name: name in known)
    training, options, given = arguments.training, arguments.options, arguments.given
    _check_idle(given, options.reward)
    _check_values(training, options)
    if arguments.health.on_nan == "warn":
        raise CodealignError("--on_nan warn: a step without a value cannot go anywhere; skip is what it does")
    if options.reward is None:
        own = defaults(training.loss_type)
        for name, value in own.items():
            if name not in given:
                setattr(training, name, value)
        if "beta" in given and "beta" not in own:
            raise CodealignError(
                f"--beta does nothing in the loss {', '.join(training.loss_type)!r}; leave it out"
            )
        for loss in objective_of(training, options).losses:
            if loss.options.get("momentum") is not None:
                raise CodealignError(
                    f"the loss {loss.name!r} carries a moving average from batch to batch, which differences "
                    "of one batch know nothing of; choose another loss"
                )
    return arguments


def settings_of(training: Any, options: ZerothOrderOptions) -> Settings:
    """The part of the options that a step depends on."""
    return Settings(
        eps=options.eps,
        directions=options.directions,
        estimator=options.estimator,
        ranking_keep=options.ranking_keep,
        weight_decay=training.weight_decay,
        sparsity=options.sparsity,
        mask_every=options.mask_every,
    )


def _check_idle(given: Mapping[str, Any], reward: str | None) -> None:
    """Refuses options of TRL's that are read by nobody here, rather than ignore them."""
    for key in given:
        if key in _ALWAYS or key in (_WITH_LOSS if reward is None else _WITH_REWARD):
            continue
        why = "there is no gradient, no optimiser state and no evaluation during training"
        if key in _WITH_LOSS:
            why = "the objective is a reward"
        if key in _WITH_REWARD:
            why = "the objective is a loss; it goes with --reward"
        raise CodealignError(f"--{key} does nothing in zeroth-order training ({why}); leave it out")


def _check_values(training: Any, options: ZerothOrderOptions) -> None:
    if training.bf16 or training.fp16:
        raise CodealignError(
            "bf16 and fp16 round moves of eps away: leave them false. To save memory keep the model in "
            "dtype: bfloat16 and train adapters (use_peft: true), which stay in float32"
        )
    if training.gradient_checkpointing:
        raise CodealignError("gradient_checkpointing does nothing without a gradient; leave it out")
    for name in ("eps", "directions", "ranking_keep", "mask_every", "max_completion_length"):
        value = getattr(options, name)
        if not (math.isfinite(value) and value > 0):
            raise CodealignError(f"--{name} must be above 0 (given: {value})")
    if not 0 <= options.sparsity < 1:
        raise CodealignError(
            f"--sparsity must lie in [0, 1), 0 moves every weight (given: {options.sparsity})"
        )
    if options.mask_every > 1 and not options.sparsity:
        raise CodealignError("--mask_every goes with --sparsity above 0")
    if not (math.isfinite(training.weight_decay) and training.weight_decay >= 0):
        raise CodealignError(f"--weight_decay must be 0 or more (given: {training.weight_decay})")
    if options.estimator == "ranking" and not 1 <= options.ranking_keep <= options.directions >= 2:
        raise CodealignError(
            f"--estimator ranking needs 2 directions or more and ranking_keep of them at most (given: "
            f"{options.directions} and {options.ranking_keep})"
        )
    if options.estimator != "ranking" and options.ranking_keep != 1:
        raise CodealignError("--ranking_keep goes with --estimator ranking")
    if training.save_steps != int(training.save_steps) or int(training.save_steps) % options.mask_every:
        raise CodealignError(
            f"--save_steps ({training.save_steps}) must be a whole multiple of --mask_every "
            f"({options.mask_every}): a mask is taken anew at a snapshot"
        )
    if options.problems is not None and options.problems < 1:
        raise CodealignError(f"--problems must be 1 or more (given: {options.problems})")
