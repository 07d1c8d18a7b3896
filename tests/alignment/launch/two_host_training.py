"""DPO on two hosts, one of which is lost during the run; runs on the first host, see two_hosts.py."""

from __future__ import annotations

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


def trainers(group: int) -> list[int]:
    """Processes of a group, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(text[2]) == group and text[0] != "Z":
                found.append(int(entry.name))
    return found


def lose_power(front: subprocess.Popen[bytes]) -> None:
    """Ends a host's front, launcher and trainer at once; they are in two process groups."""
    children = [int(e.name) for e in Path("/proc").iterdir() if e.name.isdigit() and _parent(e) == front.pid]
    groups = {os.getpgid(child) for child in children} | {front.pid}
    for group in groups:
        for pid in trainers(group):
            os.kill(pid, signal.SIGSTOP)
    for group in groups:
        os.killpg(group, signal.SIGKILL)
    destroy(front)


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


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
