"""One program's process as the supervisor sees it: its pipe, its clock, its limits, its end."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    SCM_RIGHTS,
    SHUT_WR,
    SO_PASSCRED,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
    socketpair,
)
from collections import deque

from . import wire, zygote

_CPUS = os.cpu_count() or 1
_LONGEST_WAIT = 0.25
_SHORTEST_WAIT = 0.002
GRACE = 0.3
_RECEIVE = 2**18

Limits = tuple[float, float, int, int]


class Session:
    """A process forked from a zygote. `frames` are what it sent; `over` is set when it is gone and all is
    read.
    """

    def __init__(self, number: int, limits: Limits, max_body: int) -> None:
        self.number = number
        self.cpu_limit, self.wall_limit, self.memory, self.print_limit = limits
        self.max_body = max_body
        self.sock: socket
        self.clock = 0  # 0 until the process has said hello
        self.frames: deque[tuple[int, int, bytes]] = deque()
        self.reason = ""  # why it was killed
        self.over = False
        self.lost = False
        self.status = 0
        self.used = 0.0
        self.resident = 0
        self.printed = 0
        self._data = b""
        self._out: deque[memoryview] = deque()
        self._finishing = False
        self._cpu_mark = 0.0
        self._wall_mark = time.monotonic()
        self.next_check = self._wall_mark + _SHORTEST_WAIT
        self.killed_at = 0.0
        self.grace_until = 0.0

    def start(self, orders: socket, role: bytes, cpu: int, processes: int) -> None:
        """Have a zygote fork the process."""
        self.sock, far = socketpair(AF_UNIX, SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        order = zygote.ORDER.pack(zygote.FORK, role, self.number, self.memory, cpu, processes)
        orders.sendmsg([order], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", far.fileno()))])
        far.close()

    def send(self, *pieces: bytes) -> None:
        """Queue bytes for the process and send what goes."""
        self._out.extend(memoryview(piece) for piece in pieces)
        self.flush()

    def finish(self) -> None:
        """Nothing more will be sent: the process ends when it has read all."""
        self._finishing = True
        self.flush()

    def flush(self) -> bool:
        """Send queued bytes; True when some are left."""
        try:
            while self._out:
                sent = self.sock.send(self._out[0])
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                else:
                    self._out.popleft()
            if self._finishing:
                self.sock.shutdown(SHUT_WR)
                self._finishing = False
        except BlockingIOError:
            return True
        except OSError:  # the process is gone: its end is reported by the zygote
            self._out.clear()
            self._finishing = False
        return False

    def pending(self) -> bool:
        """Whether queued bytes wait for the process to read."""
        return bool(self._out)

    def receive(self) -> bool:
        """Read what the process sent into `frames`; False at the end of its pipe."""
        while True:
            try:
                data = self.sock.recv(_RECEIVE) if self.clock else self._hello()
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            if self.reason:
                continue  # decided: what comes after the kill order does not count
            self._cut(self._data + data if self._data else data)
            if len(data) < _RECEIVE:
                return True

    def _hello(self) -> bytes:
        data, ancillary, _, _ = self.sock.recvmsg(1, CMSG_SPACE(12))
        if data and ancillary:
            pid = struct.unpack("3i", ancillary[0][2][:12])[0]
            self.clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of that process, see clock_getcpuclockid(3)
            self.sock.setsockopt(SOL_SOCKET, SO_PASSCRED, 0)
            self._wall_mark = time.monotonic()
            return self.sock.recv(_RECEIVE)
        return b""

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

    def cpu(self) -> float:
        """CPU seconds of the process so far, read from its clock; what is known when it is gone."""
        if not self.over and self.clock:
            with contextlib.suppress(OSError):
                self.used = time.clock_gettime(self.clock)
        return self.used

    def mark(self) -> float:
        """Start the limits of the next test; CPU seconds so far."""
        now = time.monotonic()
        used = self.cpu()
        self._cpu_mark = used
        self._wall_mark = now
        self.next_check = now + self._wait(0.0)
        return used

    def mark_wall(self) -> None:
        """Start the wall limit anew, for a process that waited for another one."""
        self._wall_mark = time.monotonic()

    def _wait(self, used: float) -> float:
        return min(max((self.cpu_limit - used) / _CPUS, _SHORTEST_WAIT), _LONGEST_WAIT)

    def exceeded(self, now: float) -> str:
        """Which limit is exceeded; "" when none is."""
        if self.printed > self.print_limit:
            return "output"
        used = self.cpu() - self._cpu_mark
        if used > self.cpu_limit:
            return "cpu"
        if now - self._wall_mark > self.wall_limit:
            return "wall"
        self.next_check = now + self._wait(used)
        return ""
