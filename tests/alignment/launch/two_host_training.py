"""DPO on two hosts, one of which is lost during the run; runs on the first host, see two_hosts.py."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.alignment.launch.two_hosts import ADDRESSES, Hosts, destroy, hosts, until

HANG = 15


def command(folder: Path, rank: int) -> list[str]:
    words = [sys.executable, "-m", "alignment.cli", "train", "dpo", "--config", str(folder / "dpo.yaml")]
    words += [
        "--accelerate",
        "ddp",
        "--num_processes",
        "2",
        "--num_machines",
        "2",
        "--machine_rank",
        str(rank),
    ]
    words += ["--main_process_ip", ADDRESSES[0], "--main_process_port", "29511"]
    words += ["--output_dir", str(folder / "run"), "--hang_timeout", str(HANG), "--heartbeat_seconds", "1"]
    return words


def both(two: Hosts, folder: Path, attempt: str) -> list[subprocess.Popen[bytes]]:
    return [two.start(n, command(folder, n), folder / f"{attempt}_host{n}.log") for n in (0, 1)]


def lose_power(front: subprocess.Popen[bytes]) -> None:
    """Ends a host's front, launcher and trainer, in whatever session they are; none may say a last word."""
    doomed = [front.pid]
    for pid in doomed:  # grows as children are found
        doomed += [child for child, parent in _parents().items() if parent == pid]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    destroy(front)


def _parents() -> dict[int, int]:
    """Each process's parent, from /proc."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def main(folder: Path) -> None:
    with hosts() as two:
        first = both(two, folder, "first")
        until(lambda: (folder / "run/checkpoint-10/complete").exists(), 300, first)
        two.cut()
        lose_power(first[1])
        began = time.monotonic()
        status = first[0].wait(timeout=HANG + 120)
        print(f"survivor: status {status} after {time.monotonic() - began:.0f} s")
        two.join()
        second = both(two, folder, "second")
        print("again:", [process.wait(timeout=300) for process in second])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
