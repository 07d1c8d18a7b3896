"""A worker: a zygote for solutions and one for tests, and the job that they serve."""

from __future__ import annotations

import errno
import marshal
import os
import select
import struct
import time
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Callable, Generator
from typing import Any, Protocol

from . import session, wire, zygote
from .session import Session

RECYCLE_AFTER = 1000  # programs a zygote serves
_STUCK = 10.0
Flow = Generator[None, None, None]


class Lost(Exception):
    """A zygote died or misbehaved: the work is to be done again; it says nothing about the program."""


class Hub(Protocol):
    """What a worker needs of the supervisor."""

    boxed: bool

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call the handler when the descriptor can be read."""

    def watch_write(self, fd: int, on: bool) -> None:
        """Also call it when the descriptor can be written."""

    def forget(self, fd: int) -> None:
        """Stop watching."""

    def new_zygote(self) -> tuple[int, socket, int]:
        """Process number, orders socket, descriptor of printed text.

        Raises:
            Lost: The nursery cannot make one.
        """

    def wake(self, worker: Worker) -> None:
        """Let the worker's job go on."""


class Cradle:
    """A zygote and the session it runs."""

    def __init__(self, worker: Worker, role: bytes) -> None:
        self.worker = worker
        self.hub = worker.hub
        self.role = role
        self.session: Session | None = None
        self.uses = 0
        self._dirty = False
        self._counter = 0
        self._orders: socket | None = None
        self.pid = 0
        self._printed = -1

    def prepare(self) -> None:
        """Have a live zygote.

        Raises:
            Lost: The nursery cannot make one.
        """
        if self._orders is not None and (self._dirty or self.uses >= RECYCLE_AFTER):
            self.discard()
        if self._orders is None:
            self.pid, self._orders, self._printed = self.hub.new_zygote()
            self.uses = 0
            self._dirty = False
            os.set_blocking(self._printed, False)
            self.hub.watch(self._orders.fileno(), self._on_report)
            self.hub.watch(self._printed, self._on_printed)

    def discard(self) -> None:
        """Let the zygote go; its box and all in it end with it."""
        if self._orders is not None:
            self.hub.forget(self._orders.fileno())
            self._orders.close()
            self._orders = None
        if self._printed >= 0:
            self.hub.forget(self._printed)
            os.close(self._printed)
            self._printed = -1
        if self.session is not None:
            self._end(lost=True)

    def fork(self, limits: session.Limits, tests: int, max_body: int) -> Session:
        """Start a process.

        Args:
            limits: CPU seconds, wall seconds, bytes of address space, bytes printed.
            tests: How many tests it may serve: the kernel's own CPU limit is for all of them.
            max_body: Longest frame it may send.

        Raises:
            Lost: There is no zygote to be had, or it is gone.
        """
        self.prepare()
        assert self._orders is not None
        self._counter += 1
        self.uses += 1
        started = Session(self._counter, limits, max_body)
        kernel_cpu = min(int(limits[0] * (tests + 1)) + 2, 10**6)
        try:
            started.start(self._orders, self.role, kernel_cpu, zygote.THREADS if self.hub.boxed else 0)
        except OSError as error:
            self.discard()
            raise Lost(f"a zygote takes no orders: {error}") from None
        self.session = started
        self.hub.watch(started.sock.fileno(), self._on_data)
        return started

    def kill(self, reason: str) -> None:
        """Order the end of the session's process and of all it may have made."""
        found = self.session
        if found is None or found.over:
            return
        found.reason = found.reason or reason
        found.killed_at = found.killed_at or time.monotonic()
        found.next_check = time.monotonic() + 0.5
        if self._orders is None:
            return
        try:
            self._orders.send(zygote.ORDER.pack(zygote.KILL, self.role, found.number, 0, 0, 0))
        except OSError:
            self.discard()

    def tick(self, now: float) -> None:
        """Look at the limits of the running process."""
        found = self.session
        if found is None or now < found.next_check:
            return
        if found.killed_at:
            if now - found.killed_at > _STUCK:
                self.discard()
            else:
                self.kill(found.reason)
        elif found.grace_until:
            if now >= found.grace_until:
                self.kill("grace")
            else:
                found.next_check = found.grace_until
        else:
            reason = found.exceeded(now)
            if reason:
                self.kill(reason)

    def _on_data(self, events: int) -> None:
        found = self.session
        if found is None:
            return
        fd = found.sock.fileno()
        if events & select.EPOLLOUT and not found.flush():
            self.hub.watch_write(fd, False)
        if events & ~select.EPOLLOUT and not found.receive():
            self.hub.forget(fd)
        if found.reason == "violation" and not found.killed_at:
            self.kill("violation")
        self.hub.wake(self.worker)

    def flow_control(self) -> None:
        """Watch for room in the pipe when there is more to send."""
        if self.session is not None and not self.session.over and self.session.pending():
            self.hub.watch_write(self.session.sock.fileno(), True)

    def _on_printed(self, _events: int) -> None:
        try:
            while data := os.read(self._printed, 65536):
                if self.session is not None:
                    self.session.printed += len(data)
                    if self.session.printed > self.session.print_limit and not self.session.killed_at:
                        self.kill("output")
                if len(data) < 65536:
                    break
        except BlockingIOError:
            pass

    def _on_report(self, _events: int) -> None:
        assert self._orders is not None
        try:
            data = self._orders.recv(64)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if len(data) != zygote.REPORT.size:
            self.discard()
            self.hub.wake(self.worker)
            return
        number, status, used, resident, dirty = zygote.REPORT.unpack(data)
        found = self.session
        if found is None or number != found.number:
            return
        found.receive()  # what it wrote before its end
        self._on_printed(0)
        found.status, found.used, found.resident = status, used, resident
        self._dirty = bool(dirty)
        # Without a hello the process never reached the program: the engine's fault.
        self._end(lost=not found.clock)
        self.hub.wake(self.worker)

    def _end(self, lost: bool) -> None:
        found = self.session
        assert found is not None
        self.session = None
        self.hub.forget(found.sock.fileno())
        found.sock.close()
        found.over = True
        found.lost = lost


class Worker:
    """Two zygotes and the flow of the job in hand."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.solutions = Cradle(self, zygote.SOLUTION)
        self.tests = Cradle(self, zygote.TEST)
        self.flow: Flow | None = None
        self.job: Any = None

    def tick(self, now: float) -> None:
        """Look at the limits."""
        self.solutions.tick(now)
        self.tests.tick(now)

    def next_check(self) -> float:
        """When to look at the limits next; infinity when nothing runs."""
        return min(
            (c.session.next_check for c in (self.solutions, self.tests) if c.session is not None),
            default=float("inf"),
        )

    def cancel(self) -> None:
        """End what runs; the flow sees it."""
        self.solutions.kill("cancelled")
        self.tests.kill("cancelled")

    def load(self, source: bytes, entry: str, limits: session.Limits, tests: int) -> Session:
        """A solution's process with its program sent to it."""
        started = self.solutions.fork(limits, tests, wire.MAX_BODY)
        started.send(wire.frame(wire.LOAD, 0, marshal.dumps((source, entry))))
        self.solutions.flow_control()
        return started

    def close(self, cradle: Cradle) -> Flow:
        """Wait until the cradle's process is gone; it gets a moment to end by itself."""
        found = cradle.session
        if found is None:
            return
        found.finish()
        cradle.flow_control()
        found.grace_until = time.monotonic() + session.GRACE
        found.next_check = min(found.next_check, found.grace_until)
        while not found.over:
            yield


def received_descriptors(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, ...]:
    """Descriptors that came with a message."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            return tuple(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
    return ()


def request_zygote(nursery: socket) -> tuple[int, socket, int]:
    """Ask the nursery for a zygote.

    Raises:
        Lost: It cannot make one; the text says at which step.
    """
    try:
        nursery.send(b"Z")
        data, ancillary, _, _ = nursery.recvmsg(4096, CMSG_SPACE(8))
    except OSError as error:
        raise Lost(f"the nursery is gone: {errno.errorcode.get(error.errno or 0, error)}") from None
    if not data:
        raise Lost("the nursery is gone")
    pid, text = marshal.loads(data)
    fds = received_descriptors(ancillary)
    if text or len(fds) != 2:
        raise Lost(text or "the nursery sent no descriptors")
    orders = socket(fileno=fds[0])
    orders.setblocking(False)
    return pid, orders, fds[1]
