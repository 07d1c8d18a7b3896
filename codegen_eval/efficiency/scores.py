"""What a procedure says of one program on one problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codegen_eval.metrics.enamel import ALPHA


@dataclass(frozen=True, slots=True)
class Score:
    """Efficiency of a program.

    Attributes:
        passed: Right on every level that it reached.
        value: Weighted mean of the level scores, not clipped at 1; 0 where it did not pass.
        levels: Score of each level; None for levels of weight 0.
        cause: Why it did not pass, or what stopped it; empty where neither.
        seconds: Time of each level; None where it was not completed or not timed.
        error: Standard error of the value by the noise of the measurement; 0 where none is estimated.
    """

    passed: bool
    value: float
    levels: tuple[float | None, ...]
    cause: str = ""
    seconds: tuple[float | None, ...] = ()
    error: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "passed": self.passed,
            "eff": self.value,
            "levels": list(self.levels),
            "cause": self.cause,
            "seconds": list(self.seconds),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of a problem's programs, in their order.

    Attributes:
        scores: One a program.
        reference: Seconds of the reference on each level; None for levels of weight 0.
        time_limit: Seconds at which a level scores 0.
        noise: Standard deviation over mean of a loop that is always the same, run between the measurements;
            None where the procedure has none.
    """

    scores: tuple[Score, ...]
    reference: tuple[float | None, ...]
    time_limit: float
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How programs are timed.

    Attributes:
        alpha: The time limit, as a multiple of the reference's slowest level.
        repeats: Measurements of each call; `robust` adds as many again while a score's error is not small.
    """

    alpha: float = ALPHA
    repeats: int = 6


def failed(graded_levels: Sequence[float], cause: str) -> Score:
    """The score of a program that is not right."""
    return Score(False, 0.0, tuple(None if weight == 0 else 0.0 for weight in graded_levels), cause)
