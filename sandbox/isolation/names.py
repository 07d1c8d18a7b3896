"""Names of what a nursery leaves on the machine while it lives: groups and directories. A name tells whether
its nursery is still there, so that the next start can take away what a killed one left.
"""

from __future__ import annotations

import os

PREFIX = "sandbox-"


def _started(pid: int | str) -> str:
    """Clock ticks between boot and the start of a process: with its number, nobody else's ever. Empty when it
    has ended and only waits to be reaped.
    """
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _numbering() -> int:
    """Which pid namespace gave this process its number."""
    return os.stat("/proc/self/ns/pid").st_ino


def own() -> str:
    """A name for this process's things."""
    return f"{PREFIX}{_numbering()}-{os.getpid()}-{_started('self')}"


def foreign(name: str) -> bool:
    """Whether a name was given where numbers of processes mean something else, as in another container."""
    return not name.startswith(f"{PREFIX}{_numbering()}-")


def dead(name: str) -> bool:
    """Whether the process that gave the name is gone; False where that cannot be told."""
    parts = name.removeprefix(PREFIX).split("-")
    if not name.startswith(PREFIX) or len(parts) < 3 or foreign(name) or not parts[1].isdigit():
        return False
    try:
        return _started(parts[1]) != parts[2]
    except FileNotFoundError:
        return True
    except OSError:
        return False
