"""Training options that TRL's configs do not have."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from codegen_eval.errors import CodealignError

CONFIDENCE = ("none", "label_smoothing", "win_prob")


@dataclass
class ScheduleOptions:
    """Learning-rate schedules made from runs (docs/schedules.md)."""

    lr_schedule_file: str | None = field(
        default=None,
        metadata={
            "help": "A schedule that `codealign refine-schedule` wrote; it replaces lr_scheduler_type and "
            "the warm-up."
        },
    )
    log_gradient_norms: bool = field(
        default=False,
        metadata={"help": "Write the L1 and L2 norm of every step's gradient to gradient_norms.jsonl."},
    )


@dataclass
class PreferenceOptions(ScheduleOptions):
    """Options of preference training beside TRL's, for `--name value` and recipes."""

    loss_options: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Options of the loss by name, e.g. {gamma: 0.5} for simpo; JSON on the command line. "
            "docs/losses.md lists them."
        },
    )
    weight_column: str | None = field(
        default=None, metadata={"help": "Column with each row's weight in the loss."}
    )
    append_eos: bool = field(
        default=True,
        metadata={"help": "Whether completions that are text end with the end token; false for steps."},
    )
    reference_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder for precomputed reference log-probabilities, shared by runs; "
            "default OUTPUT_DIR/reference."
        },
    )

    def __post_init__(self) -> None:
        """Reads JSON.

        Raises:
            CodealignError: For `loss_options` that are no mapping.
        """
        given = self.loss_options
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError as error:
                raise CodealignError(f"--loss_options is not valid JSON: {error}") from None
        if not isinstance(given, dict | None):
            raise CodealignError(f"loss_options must be a mapping of names to values (given: {given!r})")
        self.loss_options = dict(given or {})


@dataclass
class PairOptions(PreferenceOptions):
    """Options of training on pairs."""

    confidence_as: str = field(
        default="none",
        metadata={
            "help": "What the column `confidence` of each pair is used as: label_smoothing (1 - confidence, "
            "for cdpo, robust, exo_pair, step_dpo) or win_prob (for sppo).",
            "choices": list(CONFIDENCE),
        },
    )
    shared_prompt: bool = field(
        default=False,
        metadata={
            "help": "Compute the prompt of a pair once for both sides (sdpa or eager attention, and models "
            "whose layers all attend in full). Pays where prompts are longer than completions."
        },
    )
