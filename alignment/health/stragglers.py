"""Which ranks hold the others up, from the time that each spends on work of its own.

MegaScale (Jiang et al. 2024, arXiv 2402.15627, section 5.1) found machines 10 % slow that no error told of.
The ranks of one step end together, so step times do not show who was slow: waiting ranks are as long in
`backward`, where gradients are exchanged, as the slow one is at work. Compared are phases in which nobody
waits for another: data, generation, rewards, forward pass.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen_eval.phases import OWN

SLOWER = 1.1
"""A straggler takes at least this many times the median."""

DEVIATIONS = 3.0
"""... and lies at least this many robust deviations above it."""


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rank that holds the others up.

    Attributes:
        rank: Its number.
        phase: Where.
        seconds: A step's, there.
        median: Of all ranks.
    """

    rank: int
    phase: str
    seconds: float
    median: float


def stragglers(phases: Mapping[int, Mapping[str, float]], *, least: float = 0.01) -> list[Straggler]:
    """Ranks whose own work takes longer than that of the others.

    Args:
        phases: Seconds a step in each phase, by rank.
        least: Seconds by which a rank must lie above the median: below, nobody waits noticeably.

    Returns:
        Slowest first. With two ranks the median lies between them and one cannot be told to be far from it
        by deviations, so there the ratio to the other rank decides alone.
    """
    found = []
    for phase in OWN:
        times = {rank: row[phase] for rank, row in phases.items() if phase in row}
        if len(times) < 2:
            continue
        others = {r: [t for other, t in times.items() if other != r] for r in times}
        for rank, seconds in times.items():
            median = statistics.median(others[rank])
            spread = 1.4826 * statistics.median(abs(t - median) for t in others[rank])
            far = len(times) == 2 or seconds > median + DEVIATIONS * spread
            if far and seconds > SLOWER * median and seconds - median > least:
                found.append(Straggler(rank, phase, seconds, median))
    return sorted(found, key=lambda s: s.median - s.seconds)


class Persistent:
    """Names a straggler when it was one in several looks in a row: a single slow look is chance."""

    def __init__(self, looks: int = 3) -> None:
        self.looks = looks
        self.rows: dict[tuple[int, str], int] = {}

    def __call__(self, found: Sequence[Straggler]) -> list[Straggler]:
        """Those that have just been found for the `looks`-th time running."""
        keys = {(s.rank, s.phase) for s in found}
        self.rows = {key: self.rows.get(key, 0) + 1 for key in keys}
        return [s for s in found if self.rows[s.rank, s.phase] == self.looks]
