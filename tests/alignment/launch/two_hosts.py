"""Two hosts on one machine: two network namespaces joined by a veth pair.

    unshare --user --map-root-user --net python -m tests.alignment.launch.two_hosts

The calling process lives in the first host's namespace, a child holds the second one's. Cutting a host off
takes the link down: packets are lost, no connection is reset, as when a cable is pulled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")
LINKS = ("cable0", "cable1")


def allowed() -> str | None:
    """Why this machine cannot have two such hosts; None where it can."""
    probe = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    text = f"ip link add {LINKS[0]} type veth peer name {LINKS[1]}"
    try:
        done = subprocess.run([*probe, text], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no network namespaces here: {error}"
    return None if done.returncode == 0 else f"no network namespaces here: {done.stderr.strip()[:200]}"


def inside(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours on the first host."""
    return [
        *("unshare", "--user", "--map-root-user", "--net"),
        *(sys.executable, "-m", module, *arguments),
    ]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Hosts:
    """The two hosts; made by `hosts`."""

    def __init__(self, second: int) -> None:
        self.second = second

    def start(
        self, number: int, command: Sequence[str], log: Path, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Starts a command on a host, in a process group of its own, its output in a file."""
        words = list(command) if number == 0 else ["nsenter", "-t", str(self.second), "-n", *command]
        values = {**os.environ, "GLOO_SOCKET_IFNAME": LINKS[number], **environment}
        with log.open("ab") as file:
            return subprocess.Popen(words, env=values, stdout=file, stderr=file, process_group=0)

    def cut(self) -> None:
        """Pulls the cable."""
        _ip("link", "set", LINKS[0], "down")

    def join(self) -> None:
        """Puts the cable back."""
        _ip("link", "set", LINKS[0], "up")


@contextlib.contextmanager
def hosts() -> Iterator[Hosts]:
    """Makes the two hosts; this process must be root in a network namespace of its own."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
    try:
        ours = os.stat("/proc/self/ns/net").st_ino
        until(lambda: os.stat(f"/proc/{holder.pid}/ns/net").st_ino != ours, 20)
        _ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
        _ip("link", "set", LINKS[1], "netns", str(holder.pid))
        enter = ["nsenter", "-t", str(holder.pid), "-n", "ip"]
        for number, prefix in ((0, ["ip"]), (1, enter)):
            for words in (
                ["addr", "add", f"{ADDRESSES[number]}/24", "dev", LINKS[number]],
                ["link", "set", LINKS[number], "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run([*prefix, *words], check=True, capture_output=True)
        yield Hosts(holder.pid)
    finally:
        holder.kill()
        holder.wait()


def until(probe: Callable[[], object], seconds: float, alive: Sequence[subprocess.Popen[bytes]] = ()) -> None:
    """Waits until `probe` is true.

    Raises:
        AssertionError: If time is up or one of `alive` has ended.
    """
    deadline = time.monotonic() + seconds
    while not probe():
        ended = [process.args for process in alive if process.poll() is not None]
        assert not ended, f"ended too early: {ended}"
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.02)


def destroy(process: subprocess.Popen[bytes]) -> None:
    """Kills a group of processes at once, as a loss of power does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
