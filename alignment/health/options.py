"""Options of run health, for `--name value` and recipes of every trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from alignment.health.guard import POLICIES
from codegen_eval.errors import CodealignError


@dataclass
class HealthOptions:
    """What a run watches, and what it does about it."""

    heartbeat_seconds: float = field(
        default=10.0, metadata={"help": "Seconds between a rank's beats in OUTPUT_DIR/health."}
    )
    hang_timeout: float = field(
        default=1800.0,
        metadata={
            "help": "Without progress for so many seconds (or ten median steps, if longer) the stacks of all "
            "ranks are written and the job ends; 0 never. Longer than the longest save and evaluation."
        },
    )
    on_nan: str = field(
        default="skip",
        metadata={
            "help": "A loss that is not finite: warn, skip the update, rewind to the last checkpoint, stop.",
            "choices": list(POLICIES),
        },
    )
    on_spike: str = field(
        default="warn",
        metadata={
            "help": "A loss more than six robust deviations above the last 200: as on_nan.",
            "choices": list(POLICIES),
        },
    )
    straggler_steps: int = field(
        default=50, metadata={"help": "Steps between two looks for ranks that hold the others up; 0 never."}
    )
    checkpoint_hashes: bool = field(
        default=True,
        metadata={
            "help": "Hash every file of a checkpoint; false notes sizes only (large models, slow disks)."
        },
    )
    slow_save_seconds: float = field(
        default=300.0, metadata={"help": "A checkpoint that takes longer is told as slow."}
    )
    peak_tflops: float | None = field(
        default=None,
        metadata={"help": "The device's peak in 1e12 operations a second, where its name is not known."},
    )

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            CodealignError: For a value with which nothing could be watched.
        """
        for name, least in (("heartbeat_seconds", 0.1), ("hang_timeout", 0.0), ("slow_save_seconds", 0.0)):
            value = float(getattr(self, name))
            if not math.isfinite(value) or value < least:
                raise CodealignError(f"--{name} must be a finite number, {least} or more (given: {value})")
        if self.straggler_steps < 0:
            raise CodealignError(f"--straggler_steps must be 0 or more (given: {self.straggler_steps})")
        if self.peak_tflops is not None and not (math.isfinite(self.peak_tflops) and self.peak_tflops > 0):
            raise CodealignError(f"--peak_tflops must be a finite number above 0 (given: {self.peak_tflops})")
        for name in ("on_nan", "on_spike"):
            if getattr(self, name) not in POLICIES:
                raise CodealignError(
                    f"--{name} must be one of {', '.join(POLICIES)} (given: {getattr(self, name)!r})"
                )


NAMES = tuple(part.name for part in fields(HealthOptions))
"""Options that are no part of what a run makes: a stopped run may go on with other ones."""
