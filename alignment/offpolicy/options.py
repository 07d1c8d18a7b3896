"""Options of RRHF and RAFT beside those of TRL's SFTConfig, and the reading of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from alignment.preference.arguments import Arguments
from alignment.preference.options import ScheduleOptions
from codegen_eval.errors import CodealignError, unknown

IMITATIONS = ("sum", "token_mean")
# Fields of SFTConfig, beyond the Trainer's own, that these trainers read.
_READ = frozenset({"max_length"})


@dataclass
class OffPolicyOptions(ScheduleOptions):
    """What both methods take."""

    append_eos: bool = field(default=True, metadata={"help": "Whether answers end with the end token."})
    min_reward: float | None = field(
        default=None,
        metadata={
            "help": "RAFT keeps no answer below it; RRHF leaves out prompts whose best answer is below it."
        },
    )
    kl_coef: float = field(
        default=0.0,
        metadata={
            "help": "Takes this times (logps - ref_logps), columns of the data, off each reward, as RAFT may."
        },
    )

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            CodealignError: For a number out of range.
        """
        if not (math.isfinite(self.kl_coef) and self.kl_coef >= 0):
            raise CodealignError(f"kl_coef must be a finite number, 0 or more (given: {self.kl_coef})")
        if self.min_reward is not None and not math.isfinite(self.min_reward):
            raise CodealignError(f"min_reward must be a finite number (given: {self.min_reward})")


@dataclass
class RRHFOptions(OffPolicyOptions):
    """Options of RRHF."""

    rank_weight: float = field(
        default=1.0, metadata={"help": "Of the ranking loss; the authors' scripts use 1."}
    )
    length_penalty: float = field(
        default=1.0, metadata={"help": "Log-probabilities are divided by tokens to this power; 1 is a mean."}
    )
    imitation: str = field(
        default="sum",
        metadata={
            "help": "Of the best answer's tokens: their sum (the formula) or mean.",
            "choices": list(IMITATIONS),
        },
    )
    candidates: int | None = field(
        default=None,
        metadata={"help": "Most answers of one prompt, from best to worst at equal distances; default all."},
    )

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            CodealignError: For a number out of range.
        """
        super().__post_init__()
        for name in ("rank_weight", "length_penalty"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise CodealignError(f"{name} must be a finite number, 0 or more (given: {value})")
        if self.imitation not in IMITATIONS:
            raise unknown("imitation", self.imitation, IMITATIONS)
        if self.candidates is not None and self.candidates < 2:
            raise CodealignError(f"candidates must be 2 or more (given: {self.candidates}): one has no rank")


@dataclass
class RAFTOptions(OffPolicyOptions):
    """Options of RAFT."""

    top: int = field(default=1, metadata={"help": "How many of each prompt's answers are kept."})

    def __post_init__(self) -> None:
        """Checks ranges.

        Raises:
            CodealignError: For a number out of range.
        """
        super().__post_init__()
        if self.top < 1:
            raise CodealignError(f"top must be 1 or more (given: {self.top})")


def parse(argv: Sequence[str], options_class: type[Any]) -> Arguments:
    """Reads recipe and flags.

    Raises:
        CodealignError: As `preference.arguments.parse`, and for a key of TRL's SFT that would do nothing
            here.
    """
    from transformers import TrainingArguments
    from trl import SFTConfig

    from alignment.preference.arguments import parse as read

    idle = {f.name for f in fields(SFTConfig)} - {f.name for f in fields(TrainingArguments)} - _READ
    idle |= {"label_smoothing_factor", "group_by_length", "neftune_noise_alpha"}
    arguments = read(argv, SFTConfig, options_class, lambda name: name not in idle)
    for key in arguments.given:
        if key in idle:
            raise CodealignError(f"--{key} is an option of TRL's SFT that does nothing here; leave it out")
    if arguments.training.per_device_train_batch_size < 1:
        raise CodealignError("per_device_train_batch_size must be 1 or more")
    return arguments
