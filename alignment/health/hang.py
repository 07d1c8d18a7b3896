"""Stacks of all ranks when one of them hangs, in one report.

The rank whose watcher first sees no progress writes `hang.json`; the watchers of all ranks see it, dump
their own stacks to `stacks_rank_R.txt`, and wait until the first one has made the report of them; then
every process ends. Only files are used: ranks on other machines are reached over the shared disk, and a
rank that is stuck in a collective operation need not answer on the network.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alignment.health.beats import read_beats
from codegen_eval.files import write_whole

FLAG = "hang.json"
REPORT = "hang_report.txt"
REQUEST = "dump_request"


@dataclass(frozen=True, slots=True)
class Hang:
    """A hang that somebody saw.

    Attributes:
        rank: Who saw it first.
        time: When, in seconds since 1970.
        step: Its step.
        phase: Its phase.
        seconds: Without progress.
    """

    rank: int
    time: float
    step: int
    phase: str
    seconds: float


def raise_flag(folder: Path, hang: Hang, since: float) -> bool:
    """Tells all ranks of a hang; whether this call was the first.

    Args:
        folder: The health folder.
        hang: What was seen.
        since: Flags older than this are of an earlier attempt.
    """
    if read_flag(folder, since) is not None:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FLAG
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    temporary = folder / f".tmp.{FLAG}.{hang.rank}"
    temporary.write_text(json.dumps({name: getattr(hang, name) for name in Hang.__slots__}))
    try:
        os.link(temporary, path)  # only one of several wins, with the whole content
    except FileExistsError:
        return False
    except OSError:  # a file system without links: two reports at worst
        write_whole(path, [temporary.read_bytes()])
    finally:
        temporary.unlink()
    return True


def read_flag(folder: Path, since: float) -> Hang | None:
    """The hang that was seen after `since`; None where there is none."""
    try:
        found = Hang(**json.loads((folder / FLAG).read_text(encoding="utf-8")))
        return found if found.time >= since else None
    except (OSError, ValueError, TypeError):
        return None


def stacks_path(folder: Path, rank: int) -> Path:
    """The file with a rank's stacks."""
    return folder / f"stacks_rank_{rank}.txt"


def dump_stacks(folder: Path, rank: int, why: str) -> None:
    """Writes the Python stacks of all threads of this process."""
    temporary = folder / f".tmp.stacks.{rank}"
    with temporary.open("w") as file:
        file.write(f"rank {rank}, pid {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S')}: {why}\n")
        file.flush()
        faulthandler.dump_traceback(file=file, all_threads=True)
        os.fsync(file.fileno())
    temporary.replace(stacks_path(folder, rank))


def collect(
    folder: Path, hang: Hang, world: int, grace: float, sleep: Callable[[float], None] = time.sleep
) -> str:
    """Waits for the stacks of all ranks, writes the report, and returns it.

    Args:
        folder: The health folder.
        hang: What was seen.
        world: Number of ranks.
        grace: Seconds after which ranks without stacks are named as such.
        sleep: Waits.
    """
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        if all(_fresh(stacks_path(folder, rank), hang.time) for rank in range(world)):
            break
        sleep(0.1)
    beats = {beat.rank: beat for beat in read_beats(folder)}
    lines = [
        f"hang: rank {hang.rank} made no progress for {hang.seconds:.0f} s (step {hang.step}, {hang.phase}); "
        f"the stacks of all {world} ranks follow"
    ]
    for rank in range(world):
        beat, path = beats.get(rank), stacks_path(folder, rank)
        where = (
            f"step {beat.step}, {beat.phase}, {beat.still:.0f} s without progress, {beat.host} pid {beat.pid}"
            if beat is not None
            else "it never gave a sign"
        )
        lines.append(f"--- rank {rank}: {where}")
        if _fresh(path, hang.time):
            lines += [f"[rank {rank}] {line}" for line in path.read_text(errors="replace").splitlines()]
        else:
            ago = f"{time.time() - beat.time:.0f} s ago" if beat is not None else "never"
            lines.append(
                f"[rank {rank}] no stacks within {grace:.0f} s (last beat: {ago}): its process or machine is "
                "gone, or cut off from the run directory"
            )
    text = "\n".join(lines) + "\n"
    with contextlib.suppress(OSError):
        write_whole(folder / REPORT, [text.encode(errors="replace")])
    return text


def reported(folder: Path, hang: Hang) -> bool:
    """Whether the report of this hang has been written."""
    return _fresh(folder / REPORT, hang.time)


def say(text: str) -> None:
    """To stderr, past Python's buffers: the training thread may hold them."""
    with contextlib.suppress(OSError, ValueError):
        data = text.encode(errors="replace")
        handle = sys.stderr.fileno()
        while data:
            data = data[os.write(handle, data) :]


def _fresh(path: Path, since: float) -> bool:
    try:
        return path.stat().st_mtime >= since - 2.0  # clocks of disks and machines differ a little
    except OSError:
        return False
