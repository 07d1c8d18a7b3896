"""What one test of a program may use."""

from __future__ import annotations

import math
import resource
import sys
from dataclasses import dataclass, fields, replace

_PYTHON_MB = 64  # address space that the interpreter takes before a program has any


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that hold for each test (each cell of a matrix) and, once more, for loading the program.

    Attributes:
        cpu_seconds: CPU time of the process; decides the verdict `timeout`.
        wall_seconds: Backstop for programs that sleep.
        memory_mb: Address space of the process, MiB.
        output_kb: What it may print, KiB; printed text is counted and thrown away.

    Raises:
        ValueError: A limit is not a positive finite number.
    """

    cpu_seconds: float = 3.0
    wall_seconds: float = 12.0
    memory_mb: int = 1024
    output_kb: int = 1024

    def __post_init__(self) -> None:
        for name in ("cpu_seconds", "wall_seconds", "memory_mb", "output_kb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"limit {name} is {value!r}; give a positive number")
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"limit {name} is {value!r}; give a positive finite number")
        if self.memory_mb < 32:
            raise ValueError(f"limit memory_mb is {self.memory_mb}; Python itself needs 32 MiB")

    def within(self, hard: Limits) -> tuple[Limits, tuple[str, ...]]:
        """These limits lowered to the hard ones, and a sentence for each that was lowered."""
        lowered = {}
        notes = []
        for field in fields(self):
            asked, most = getattr(self, field.name), getattr(hard, field.name)
            if asked > most:
                lowered[field.name] = most
                notes.append(f"limit {field.name} lowered from {asked:g} to the hard limit {most:g}")
        return (replace(self, **lowered) if lowered else self), tuple(notes)

    @classmethod
    def of_session(cls) -> Limits | None:
        """The most that this process's own hard limits (`ulimit -H`) let a program have; None where they let
        it have anything.
        """
        memory, cpu = (resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU))
        if memory == cpu == resource.RLIM_INFINITY:
            return None
        boundless = cls(sys.float_info.max, sys.float_info.max, sys.maxsize, sys.maxsize)
        if cpu != resource.RLIM_INFINITY:
            boundless = replace(boundless, cpu_seconds=max(1, cpu - 1))
        if memory != resource.RLIM_INFINITY:
            boundless = replace(boundless, memory_mb=max(32, memory // 2**20 - _PYTHON_MB))
        return boundless

    def wire(self) -> tuple[float, float, int, int]:
        """The four numbers as the engine's processes read them: seconds, seconds, bytes, bytes."""
        return (
            float(self.cpu_seconds),
            float(self.wall_seconds),
            int(self.memory_mb * 2**20),
            int(self.output_kb * 1024),
        )
