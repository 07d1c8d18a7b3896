"""Hardware counters of another process, perf_event_open(2): instructions vary less than CPU time does. Most
virtual machines have none.
"""

from __future__ import annotations

import os
import struct

from ..isolation import libc

HARDWARE, SOFTWARE = 0, 1
INSTRUCTIONS, TASK_CLOCK = 1, 1
_EXCLUDE_KERNEL = 1 << 5 | 1 << 6  # and hypervisor
_SIZE = 128  # of struct perf_event_attr
_unavailable: list[bool] = []  # asked once: the answer does not change while a machine runs


class Instructions:
    """Counts what a process does in user mode, from the moment this is made."""

    def __init__(self, pid: int, kind: int = HARDWARE, event: int = INSTRUCTIONS) -> None:
        attributes = struct.pack("<IIQQQQQ", kind, _SIZE, event, 0, 0, 0, _EXCLUDE_KERNEL)
        self._fd = libc.perf_event_open(attributes.ljust(_SIZE, b"\0"), pid)

    @classmethod
    def of(cls, pid: int) -> Instructions | None:
        """A counter of instructions; None where the machine offers none."""
        if _unavailable:
            return None
        try:
            return cls(pid)
        except ProcessLookupError:
            return None
        except OSError:
            _unavailable.append(True)
            return None

    def read(self) -> int:
        """The count so far."""
        return int(struct.unpack("<Q", os.read(self._fd, 8))[0])

    def close(self) -> None:
        """Let the counter go."""
        os.close(self._fd)
