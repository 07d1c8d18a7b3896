"""Beats: what each rank is doing, a small file a rank that is replaced in one step.

Files and no sockets, so that shared disks are enough, the last word of a dead rank stays readable, and
`codealign status` needs no running process. A thread writes them: they go on while the training thread
hangs, and that its step stands still is what shows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from codegen_eval.files import write_whole
from codegen_eval.jsonl import plain

STATES = ("running", "finished", "failed", "hung")


@dataclass(frozen=True, slots=True)
class Beat:
    """One rank's state.

    Attributes:
        rank: Its number.
        world: Number of ranks.
        host: Its machine.
        pid: Its process.
        time: Seconds since 1970.
        state: One of `STATES`.
        step: Optimiser steps done.
        max_steps: Steps of the whole run; 0 where unknown.
        phase: What it is in: setup, data, generate or rollout, reward, prepare,
            forward, backward, optimizer, update, save, eval.
        still: Seconds since the last sign of progress.
        loss: The last one, of all ranks; None before the first.
        memory: Bytes of the process.
        device_memory: Bytes allocated on its GPU; 0 without one.
        phases: Median seconds of each phase in the last steps.
        step_seconds: Median seconds of a step; None before the first.
        tokens_per_second: Trained tokens of all ranks; None where nobody counts.
        mfu: Model-flops utilisation; None where the device's peak is not known.
    """

    rank: int
    world: int
    host: str
    pid: int
    time: float
    state: str = "running"
    step: int = 0
    max_steps: int = 0
    phase: str = "setup"
    still: float = 0.0
    loss: float | None = None
    memory: int = 0
    device_memory: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    step_seconds: float | None = None
    tokens_per_second: float | None = None
    mfu: float | None = None


def write_beat(folder: Path, beat: Beat) -> None:
    """Writes `rank_R.json`; a disk that refuses does not stop the run."""
    text = json.dumps(plain(asdict(beat), finite=True), sort_keys=True)
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"rank_{beat.rank}.json", [text.encode() + b"\n"])


def read_beats(folder: Path) -> list[Beat]:
    """All ranks' last beats, by rank; files that are none are left out."""
    known = {part.name for part in fields(Beat)}
    found = []
    for path in folder.glob("rank_*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found.append(Beat(**{key: value for key, value in row.items() if key in known}))
    return sorted(found, key=lambda beat: beat.rank)


def process_memory() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        import resource

        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
