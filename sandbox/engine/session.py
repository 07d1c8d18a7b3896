"""One program's process as the supervisor sees it: its pipe, its clock, its limits, its end."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import time
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    SCM_CREDENTIALS,
    SCM_RIGHTS,
    SHUT_WR,
    SO_PASSCRED,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
    socketpair,
)
from collections import deque

from . import wire
from .streams import Streams

_CPUS = os.cpu_count() or 1
_LONGEST_WAIT = 0.25
_SHORTEST_WAIT = 0.002
_FIRST_GLANCE = 0.002
_LONGEST_GLANCE = 0.016
_MUCH = 2**16  # a process that writes so much between two glances is watched instead
GRACE = 0.3
_MOST_STARVED = 2.0  # wall limits that a process may wait for a core, on a machine that has none for it
_RECEIVE = 2**16  # larger buffers are mapped and unmapped by every call
_AT_ONCE = 2**20  # read at a time: who writes faster than is read must not keep all others waiting
NEVER = float("inf")

Limits = tuple[float, float, int, int]


class Session:
    """A process forked from a zygote. `frames` are what it sent; `over` is set when it is gone and all is
    read.

    A quiet session's pipe is looked at now and then (see `glance`) and at the process's end: a program that
    answers fifty calls wakes the supervisor once or twice, not fifty times.
    """

    def __init__(self, number: int, limits: Limits, max_body: int, quiet: bool = False) -> None:
        self.number = number
        self.cpu_limit, self.wall_limit, self.memory, self.print_limit = limits
        self.max_body = max_body
        self.quiet = quiet
        self.sock: socket
        self.clock = 0  # 0 until the process has said hello
        self.frames: deque[tuple[int, int, bytes]] = deque()
        self.reason = ""  # why it was killed
        self.closed = False  # its end of the pipe is closed
        self.over = False
        self.lost = False
        self.status = 0
        self.used = 0.0
        self.resident = 0
        self.out_of_memory = False  # the kernel killed it for the cap on its group
        self.printed = 0
        self.streams: Streams | None = None
        self._data = b""
        self._unread = 0  # bytes that came since the last time all frames had been taken
        self._out: deque[tuple[memoryview, int]] = deque()  # bytes, and a descriptor to go with them or -1
        self._finishing = False
        self._cpu_mark = 0.0
        self._wall_mark = time.monotonic()
        self._glance = _FIRST_GLANCE
        self.next_check = self._wall_mark + (_FIRST_GLANCE if quiet else _SHORTEST_WAIT)
        self.killed_at = 0.0
        self.grace_until = 0.0

    def open(self) -> socket:
        """Make the pipe; the far end, for the process."""
        self.sock, far = socketpair(AF_UNIX, SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        return far

    def send(self, *pieces: bytes, descriptor: int = -1) -> None:
        """Queue bytes for the process and send what goes; a descriptor goes with the first piece and is
        closed here once it is sent.
        """
        for piece in pieces:
            self._out.append((memoryview(piece), descriptor))
            descriptor = -1
        self.flush()

    def finish(self) -> None:
        """Nothing more will be sent: the process ends when it has read all."""
        self._finishing = True
        self.flush()

    def flush(self) -> bool:
        """Send queued bytes; True when some are left."""
        try:
            while self._out:
                piece, descriptor = self._out[0]
                if descriptor < 0:
                    sent = self.sock.send(piece)
                else:
                    sent = self.sock.sendmsg(
                        [piece], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", descriptor))]
                    )
                    os.close(descriptor)
                if sent < len(piece):
                    self._out[0] = (piece[sent:], -1)
                else:
                    self._out.popleft()
            if self._finishing:
                self.sock.shutdown(SHUT_WR)
                self._finishing = False
        except BlockingIOError:
            return True
        except OSError:  # the process is gone: its end is reported by the zygote
            self._drop_output()
        return False

    def _drop_output(self) -> None:
        for _, descriptor in self._out:
            if descriptor >= 0:
                os.close(descriptor)
        self._out.clear()
        self._finishing = False

    def pending(self) -> bool:
        """Whether queued bytes wait for the process to read."""
        return bool(self._out)

    def close(self) -> None:
        """Let the pipe go."""
        self._drop_output()
        self.sock.close()

    def receive(self, most: float = _AT_ONCE) -> bool:
        """Read what the process sent into `frames`; False at the end of its pipe.

        Args:
            most: Bytes after which the rest is left for the next time.
        """
        taken = 0
        if not self.frames:
            self._unread = 0
        while taken < most:
            try:
                data = self.sock.recv(_RECEIVE) if self.clock else self._hello()
            except BlockingIOError:
                return True
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return False
            taken += len(data)
            if self.reason:
                continue  # decided: what comes after the kill order does not count
            self._cut(self._data + data if self._data else data)
            self._unread += len(data)
            if self.frames and self._unread > self.max_body + _AT_ONCE:  # nobody waits for all that
                self.reason = "violation"
                self.frames.clear()
            if taken > _MUCH:
                self.quiet = False
            if len(data) < _RECEIVE:
                return True
        return True

    def _hello(self) -> bytes:
        data, ancillary, _, _ = self.sock.recvmsg(1, CMSG_SPACE(12))
        for level, kind, content in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_CREDENTIALS):
                pid = struct.unpack("3i", content[:12])[0]
                self.clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of that process, see clock_getcpuclockid(3)
            elif (level, kind) == (SOL_SOCKET, SCM_RIGHTS):  # a program's own idea
                for descriptor in struct.unpack(f"{len(content) // 4}i", content[: len(content) // 4 * 4]):
                    os.close(descriptor)
        return self.sock.recv(_RECEIVE) if data and self.clock else b""

    def _cut(self, data: bytes) -> None:
        at, end = 0, len(data)
        while end - at >= wire.HEAD_SIZE:
            size, kind, number = wire.HEAD.unpack_from(data, at)
            if size > self.max_body:
                self.reason = "violation"
                break
            if end - at - wire.HEAD_SIZE < size:
                break
            begin = at + wire.HEAD_SIZE
            at = begin + size
            self.frames.append((kind, number, data[begin:at]))
        self._data = data[at:]

    def intruded(self) -> bool:
        """Whether the process sent something although it was asked nothing."""
        if not self.over:
            self.receive()
        return bool(self.frames or self._data or self.reason == "violation")

    def cpu(self) -> float:
        """CPU seconds of the process so far, read from its clock; what is known when it is gone."""
        if not self.over and self.clock:
            with contextlib.suppress(OSError):
                self.used = time.clock_gettime(self.clock)
        return self.used

    def first_thread(self) -> float:
        """CPU seconds of its first thread; infinite where the kernel does not tell or it is gone."""
        found = self._schedule()
        return found[0] if found else math.inf

    def _schedule(self) -> tuple[float, float] | None:
        """Seconds that its first thread ran, and waited for a core; None where the kernel does not tell."""
        try:
            with open(f"/proc/{self.pid}/schedstat") as file:
                ran, waited = file.read().split()[:2]
            # Kernels that keep no account of it say 0 of everybody.
            return (int(ran) / 1e9, int(waited) / 1e9) if int(ran) else None
        except (OSError, ValueError):
            return None

    def mark(self) -> float:
        """Start the limits of the next test; CPU seconds so far."""
        now = time.monotonic()
        used = self.cpu()
        self._cpu_mark = used
        self._wall_mark = now
        self.next_check = now + self._wait(0.0)
        return used

    @property
    def pid(self) -> int:
        """Its process number, once it has said hello."""
        return ~(self.clock >> 3)

    def mark_wall(self) -> None:
        """Start the wall limit anew, for a process that waited for another one."""
        self._wall_mark = time.monotonic()

    def rest(self) -> None:
        """No limits until the next mark."""
        self.next_check = NEVER

    def _wait(self, used: float) -> float:
        wait = min(max((self.cpu_limit - used) / _CPUS, _SHORTEST_WAIT), _LONGEST_WAIT)
        if self.quiet:
            wait = min(wait, self._glance)
            self._glance = min(2 * self._glance, _LONGEST_GLANCE)
        return wait

    def _starved(self) -> float:
        """Seconds for which the process could have run and got no core: the wall limit is for sleepers."""
        found = self._schedule()
        return min(found[1], _MOST_STARVED * self.wall_limit) if found else 0.0

    def exceeded(self, now: float) -> str:
        """Which limit is exceeded; "" when none is."""
        if self.printed > self.print_limit:
            return "output"
        used = self.cpu() - self._cpu_mark
        if used > self.cpu_limit:
            return "cpu"
        if (
            now - self._wall_mark > self.wall_limit
            and now - self._wall_mark > self.wall_limit + self._starved()
        ):
            return "wall"
        self.next_check = now + self._wait(used)
        return ""
