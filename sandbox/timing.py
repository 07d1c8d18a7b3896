"""Timing of programs: what to time. The clocks are read by the engine (engine/jobs.py), outside the
programs' reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import codec
from .limits import Limits
from .program import check_entry_point, check_job


@dataclass(frozen=True, slots=True)
class TimingJob:
    """Sources that share an entry point, and calls that each of them is to make.

    Attributes:
        sources: Python programs.
        entry_point: The function to call.
        calls: Argument tuples, plain data.
        repeats: How often; every repeat is a fresh process, so nothing is remembered between them.
        limits: Limits of each call; the sandbox's own when absent.
    """

    sources: Sequence[str]
    entry_point: str
    calls: Sequence[tuple[Any, ...]]
    repeats: int = 3
    limits: Limits | None = None

    def __post_init__(self) -> None:
        check_entry_point(self.entry_point)
        for source in self.sources:
            check_job(source, self.entry_point, ())
        for call in self.calls:
            if type(call) is not tuple:
                raise ValueError(f"a call is a {type(call).__name__}; give a tuple of arguments")
            codec.check_plain(call, "a call")
        if isinstance(self.repeats, bool) or not isinstance(self.repeats, int) or self.repeats < 1:
            raise ValueError(f"repeats is {self.repeats!r}; give a number >= 1")

    def wire(self, number: int, limits: Limits) -> tuple[Any, ...]:
        """The job as the engine reads it."""
        return (
            "time",
            number,
            [source.encode("utf-8", "surrogatepass") for source in self.sources],
            self.entry_point,
            [codec.pack_arguments(call) for call in self.calls],
            self.repeats,
            (self.limits or limits).wire(),
        )
