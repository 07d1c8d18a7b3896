"""What happened to a run: one line an event, in files that only one process appends to.

A rank writes `health/events_rank_R.jsonl`, the launcher's front `health/events_front_HOST.jsonl`; so no two
processes share a file, and shared disks without locks do.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen_eval.jsonl import dump_row, plain
from codegen_eval.runs import HEALTH

FOLDER = HEALTH
"""Folder of a run directory that this package writes to."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        kind: `hang`, `failed`, `restart`, `nan`, `spike`, `rewind`, `torn_checkpoint`,
            `straggler`, `slow_save`, `ended`, or a name of the caller's.
        time: Seconds since 1970.
        writer: `rank_R` or `front_HOST`.
        facts: What else is known.
    """

    kind: str
    time: float
    writer: str
    facts: dict[str, Any] = field(default_factory=dict)


def record(folder: Path, writer: str, kind: str, **facts: Any) -> None:
    """Appends an event; a disk that refuses does not stop the run.

    Args:
        folder: The run's health folder.
        writer: Who writes, see `Event`.
        kind: See `Event`.
        facts: Plain values.
    """
    row = {"kind": kind, "time": time.time(), **plain(facts, finite=True)}
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"events_{writer}.jsonl"
        with target.open("ab") as file:
            # A kill amid an earlier line must not spoil this one.
            torn = target.stat().st_size and not _ends_with_newline(target)
            file.write((b"\n" if torn else b"") + dump_row(row))
            file.flush()
            os.fsync(file.fileno())


def read_events(folder: Path) -> list[Event]:
    """All events of a health folder by time; lines that a kill tore are left out."""
    found = []
    for path in folder.glob("events_*.jsonl"):
        writer = path.stem.removeprefix("events_")
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                found.append(Event(str(row.pop("kind")), float(row.pop("time")), writer, row))
    return sorted(found, key=lambda event: event.time)


def front() -> str:
    """The name under which this machine's launcher front writes."""
    return f"front_{socket.gethostname()}"


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
