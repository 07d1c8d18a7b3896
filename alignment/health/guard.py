"""What a run does about a loss that is not finite, or jumps: say it, skip the update, go back, or stop.

A value is a spike where it lies more than `SPIKE` robust deviations above the median of the last `WINDOW`
good ones. Judged is the mean over all processes, so that all of them decide alike.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from alignment.health.restart import REWIND_STATUS
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

WINDOW = 200
SPIKE = 6.0
LEAST = 20
"""Values before anything is called a spike."""

IN_A_ROW = 5
"""After so many losses in a row that are not finite, skipping is no use."""

REWINDS = 3
"""So often a run may go back; then the fault is not in single batches."""

POLICIES = ("warn", "skip", "rewind", "stop")
_RANGES = "skip.json"


class Rewind(CodealignError):
    """The run wants to go on from the checkpoint before; it is not the user who has to act.

    Args:
        message: For people.
        checkpoint: The step of that checkpoint; 0 for the start.
    """

    status = REWIND_STATUS

    def __init__(self, message: str, checkpoint: int = 0) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


@dataclass(slots=True)
class LossGuard:
    """Judges one loss after the other.

    Attributes:
        on_nan: What to do about a loss that is not finite, one of `POLICIES`.
        on_spike: What to do about a jump.
        patience: So many losses in a row that are not finite end a run that skips them.
        values: The last good losses.
        bad: Losses in a row that were not finite.
    """

    on_nan: str = "skip"
    on_spike: str = "warn"
    patience: int = IN_A_ROW
    values: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    bad: int = 0

    def judge(self, loss: float) -> tuple[str, str]:
        """What the loss is (`good`, `nan`, `spike`) and what is to be done (`go`, or one of `POLICIES`).

        Raises:
            CodealignError: After `patience` losses in a row that were not finite.
        """
        if not math.isfinite(loss):
            self.bad += 1
            if self.bad >= self.patience and self.on_nan in ("skip", "warn"):
                raise CodealignError(
                    f"the loss was not finite {self.bad} times in a row: lower the learning rate, look at "
                    "the data, or go on from an earlier checkpoint with --on_nan rewind"
                )
            return "nan", self.on_nan
        self.bad = 0
        if self._jumps(loss):
            return "spike", self.on_spike
        self.values.append(loss)
        return "good", "go"

    def threshold(self) -> float | None:
        """The least value that would be a spike; None while too few are known."""
        if len(self.values) < LEAST:
            return None
        median = statistics.median(self.values)
        deviation = 1.4826 * statistics.median(abs(value - median) for value in self.values)
        # A loss that hardly moves must not make noise a spike.
        return median + SPIKE * max(deviation, 0.01 * abs(median))

    def _jumps(self, loss: float) -> bool:
        threshold = self.threshold()
        return threshold is not None and loss > threshold


def skip_ranges(folder: Path) -> list[tuple[int, int]]:
    """Steps that are passed over after a rewind: pairs (after this step, up to and with that one)."""
    try:
        return [(int(a), int(b)) for a, b in json.loads((folder / _RANGES).read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def passed_over(step: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Whether the step with this number (the first is 1) is passed over."""
    return any(after < step <= last for after, last in ranges)


def note_rewind(folder: Path, checkpoint: int, step: int) -> None:
    """Notes that the batches after `checkpoint`, up to the one of `step`, are not trained on again.

    Raises:
        CodealignError: After `REWINDS` of them.
    """
    ranges = skip_ranges(folder)
    if len(ranges) >= REWINDS:
        raise CodealignError(
            f"the run went back {REWINDS} times and the loss still breaks at step {step}: the fault is not "
            "in single batches. Lower the learning rate"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _RANGES, [json.dumps([*ranges, (checkpoint, step)]).encode()])
