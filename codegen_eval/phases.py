"""Phases of a training step, and from them who waits for whom."""

from __future__ import annotations

from collections.abc import Mapping

OWN = ("data", "generate", "rollout", "reward", "forward")
"""Phases without communication (under ZeRO-3 and FSDP the forward pass has some, and hides differences)."""


def waiting(phases: Mapping[int, Mapping[str, float]], step_seconds: float) -> dict[int, float]:
    """The share of a step that each rank waits for the slowest one, from the work of its own.

    Args:
        phases: Seconds a step in each phase, by rank.
        step_seconds: Of a whole step.
    """
    own = {rank: sum(row.get(phase, 0.0) for phase in OWN) for rank, row in phases.items()}
    if not own or step_seconds <= 0:
        return dict.fromkeys(own, 0.0)
    slowest = max(own.values())
    return {rank: min(1.0, (slowest - seconds) / step_seconds) for rank, seconds in own.items()}
