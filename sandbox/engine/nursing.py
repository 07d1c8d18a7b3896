"""The supervisor's end of the nursery: asks for zygotes, starts a new nursery when one was killed, waits at
the end.
"""

from __future__ import annotations

import contextlib
import errno
import json
import marshal
import os
import struct
import sys
import time
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    SCM_RIGHTS,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)
from typing import Any, NamedTuple

from ..isolation import libc
from ..isolation.cgroup import Group

_PATIENCE = 2.5


class Lost(Exception):
    """A zygote died or misbehaved: the work is to be done again; it says nothing about the program."""


class Zygote(NamedTuple):
    """What the supervisor holds of a zygote.

    Attributes:
        pid: Its process number.
        orders: Socket of whole messages to it.
        printed: Descriptor of what its programs print.
        group: Its control group; None where there is none.
        facts: What is in force around it, as the nursery found it.
    """

    pid: int
    orders: socket
    printed: int
    group: Group | None
    facts: dict[str, Any]


class Nursing:
    """Has a nursery, always one that was started by exec: this process holds programs and tests.

    Args:
        boot: Path of boot.py.
        settings: What the nursery needs to know.
    """

    def __init__(self, boot: str, settings: dict[str, Any]) -> None:
        self._command = [sys.executable, "-s", "-S", "-P", boot, "nursery", json.dumps(settings)]
        self._socket: socket
        libc.become_subreaper()  # zygotes of a killed nursery come here, and are waited for
        self._start()

    def _start(self) -> None:
        self._socket, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self.pid = os.posix_spawn(
            sys.executable, self._command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, far.fileno(), 0)]
        )
        far.close()

    def new_zygote(self, box: bytes) -> Zygote:
        """A zygote, from a new nursery if the old one is gone.

        Args:
            box: Empty, or what the box of a zygote for commands holds, as marshal data.

        Raises:
            Lost: There is none to be had; the text says at which step.
        """
        self._reap()  # of a nursery that was killed, and of its zygotes
        try:
            return self._request(box)
        except OSError:
            self._socket.close()
            self._start()
        try:
            return self._request(box)
        except OSError as error:
            raise Lost(f"the nursery is gone: {errno.errorcode.get(error.errno or 0, error)}") from None

    def _request(self, box: bytes) -> Zygote:
        self._socket.send(b"Z" + box)
        data, ancillary, _, _ = self._socket.recvmsg(4096, CMSG_SPACE(8), MSG_CMSG_CLOEXEC)
        if not data:
            raise OSError(errno.EPIPE, "the nursery is gone")
        pid, text, facts = marshal.loads(data)
        fds = _received_descriptors(ancillary)
        if text or len(fds) != 2:
            raise Lost(text or "the nursery sent no descriptors")
        orders = socket(fileno=fds[0])
        orders.setblocking(False)
        group = facts.pop("group")
        return Zygote(pid, orders, fds[1], Group(*group) if group else None, facts)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def close(self) -> None:
        """Wait for the nursery, which waits for its zygotes: all CPU time is then counted where it is due.

        The zygotes' orders must be closed before. What a nursery left that was killed is taken away by
        another one, which makes nothing.
        """
        self._socket.close()
        if self._wait():
            return
        with contextlib.suppress(OSError):  # no room for one more process
            self._start()
            self._socket.close()
            self._wait()

    def _wait(self) -> bool:
        """Wait for all children; whether the nursery ended by itself."""
        end = time.monotonic() + _PATIENCE
        well = True
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid:
                    well = well and (pid != self.pid or status == 0)
                    continue
                if time.monotonic() > end:
                    for left in _children():
                        os.kill(left, 9)
                time.sleep(0.001)
        return well


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _received_descriptors(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, ...]:
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            return tuple(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
    return ()
