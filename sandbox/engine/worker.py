"""A worker: a zygote for solutions and one for tests, and the job that they serve."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import struct
import time
from _socket import SCM_RIGHTS, SOL_SOCKET, socket
from collections.abc import Callable, Generator
from typing import Any, Protocol

from ..isolation.cgroup import Group
from . import launch, session, wire, zygote
from .nursing import Lost, Zygote
from .session import Session
from .streams import Streams

MAX_COMMAND_BOXES = 4  # of one worker
RECYCLE_AFTER = 1000  # programs a zygote serves
SERVES = 500  # trusted tests that a test's process serves
_STUCK = 10.0
Flow = Generator[None, None, None]


class Hub(Protocol):
    """What a worker needs of the supervisor."""

    boxed: bool
    branches: bool  # whether a program's process may fork for its tests
    artefacts: Any  # what compilers made, see command.py

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call the handler when the descriptor can be read."""

    def watch_write(self, fd: int, on: bool) -> None:
        """Also call it when the descriptor can be written."""

    def forget(self, fd: int) -> None:
        """Stop watching."""

    def new_zygote(self, box: bytes) -> Zygote:
        """A zygote.

        Args:
            box: Empty, or what the box of a zygote for commands holds, as marshal data.

        Raises:
            Lost: There is none to be had.
        """

    def wake(self, worker: Worker) -> None:
        """Let the worker's job go on."""


class Cradle:
    """A zygote and the session it runs."""

    def __init__(self, worker: Worker, box: bytes = b"") -> None:
        self.box = box
        self.worker = worker
        self.hub = worker.hub
        self.session: Session | None = None
        self.branch: Session | None = None  # a fork of the session's process, see `branch_off`
        self.uses = 0
        self._dirty = False
        self._counter = 0
        self._role = b""
        self._orders: socket | None = None
        self.pid = 0
        self._printed = -1
        self._group: Group | None = None
        self.facts: dict[str, Any] = {}

    def prepare(self) -> None:
        """Have a live zygote.

        Raises:
            Lost: The nursery cannot make one.
        """
        if self._orders is not None and (self._dirty or self.uses >= RECYCLE_AFTER):
            self.discard()
        if self._orders is None:
            self.pid, self._orders, self._printed, self._group, self.facts = self.hub.new_zygote(self.box)
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

    def fork(
        self,
        role: bytes,
        limits: session.Limits,
        tests: int,
        max_body: int,
        quiet: bool = False,
        streams: Streams | None = None,
        cap: int = 0,
    ) -> Session:
        """Start a process.

        Args:
            role: One of those of the zygote.
            limits: CPU seconds, wall seconds, bytes of address space, bytes printed.
            tests: How many tests it may serve: the kernel's own CPU limit is for all of them.
            max_body: Longest frame it may send.
            quiet: Look at its pipe now and then only.
            streams: Standard input and output of a program that has them.
            cap: Bytes for its control group, where the limit on memory is not of address space.

        Raises:
            Lost: There is no zygote to be had, or it is gone.
        """
        if role != launch.COLLECT:  # which must find what the process before it left
            self.prepare()
        if self._orders is None:
            raise Lost("a zygote is gone")
        if self._group is not None:
            with contextlib.suppress(OSError):  # the old cap stays, and is tried again
                self._group.cap(cap or limits[2])
        self._counter += 1
        self.uses += 1
        started = Session(self._counter, limits, max_body, quiet)
        self._role = role
        cpu = min(int(limits[0] * (tests + 1)) + 2, 10**6)
        order = zygote.ORDER.pack(zygote.FORK, role, started.number, started.memory, cpu, zygote.THREADS)
        far = started.open()
        try:
            self._orders.sendmsg([order], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("i", far.fileno()))])
        except OSError as error:
            self.discard()
            raise Lost(f"a zygote takes no orders: {error}") from None
        finally:
            far.close()
        self.session = started
        if not quiet:
            self._watch(started)
        if streams is not None:
            started.streams = streams
            streams.hand_over(started.sock)
            self.hub.watch(streams.fd, self._on_output)
        return started

    def branch_off(self, limits: session.Limits, max_body: int) -> Session:
        """Have the session's process fork; its child serves calls on a pipe of its own, and the process
        itself waits for the child's end.
        """
        assert self.session is not None and self.branch is None
        self.session.rest()
        branch = Session(self.session.number, limits, max_body)
        self.branch = branch
        self.session.send(wire.frame(wire.BRANCH, 0), descriptor=branch.open().detach())
        self.flow_control()
        self._watch(branch)
        return branch

    def end_branch(self) -> None:
        """Let the branch go."""
        if self.branch is not None:
            self.hub.forget(self.branch.sock.fileno())
            self.branch.close()
            self.branch.over = True
            self.branch = None

    def kill(self, reason: str) -> None:
        """Order the end of the session's process and of all it may have made."""
        for found in (self.branch, self.session):
            if found is not None and not found.over:
                found.reason = found.reason or reason
                found.killed_at = found.killed_at or time.monotonic()
                found.next_check = time.monotonic() + 0.5
        if self._orders is None or self.session is None:
            return
        try:
            self._orders.send(zygote.ORDER.pack(zygote.KILL, self._role, self.session.number, 0, 0, 0))
        except OSError:
            self.discard()

    def condemn(self, offender: Session) -> None:
        """End a process that said what it was not asked. What came with it does not count, and it counts
        even if the process has ended since.
        """
        offender.frames.clear()
        offender.reason = offender.reason or "violation"
        self.kill("violation")

    def next_check(self) -> float:
        """When to look at the limits next."""
        live = [s.next_check for s in (self.session, self.branch) if s is not None and not s.over]
        return min(live, default=session.NEVER)

    def tick(self, now: float) -> None:
        """Look at the limits of the running process, and at a quiet one's pipe."""
        for found in (self.branch, self.session):
            if found is None or found.over or now < found.next_check:
                continue
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
                self._look(found, now)

    def _look(self, found: Session, now: float) -> None:
        if found.quiet:
            self._receive(found)
            if not found.quiet:
                self._watch(found)
        reason = ""
        if found.frames:  # the flow marks how far it came before limits are looked at
            found.next_check = now + 0.002
        else:
            reason = found.exceeded(now)
        if found.reason == "violation" or reason:
            self.kill(found.reason or reason)

    def _watch(self, found: Session) -> None:
        self.hub.watch(found.sock.fileno(), lambda events: self._on_data(found, events))

    def _on_data(self, found: Session, events: int) -> None:
        fd = found.sock.fileno()
        if events & select.EPOLLOUT and not found.flush():
            self.hub.watch_write(fd, False)
        if events & ~select.EPOLLOUT and not self._receive(found):
            self.hub.forget(fd)
        if found.reason == "violation" and not found.killed_at:
            self.kill("violation")
        self.hub.wake(self.worker)

    def _receive(self, found: Session) -> bool:
        more = found.receive()
        if not more and found is self.branch:
            found.over = True  # its parent tells how it ended
            found.rest()
        return more

    def flow_control(self) -> None:
        """Watch for room in the pipe when there is more to send."""
        for found in (self.session, self.branch):
            if found is not None and not found.over and found.pending():
                if found.quiet:
                    found.quiet = False
                    self._watch(found)
                self.hub.watch_write(found.sock.fileno(), True)

    def count_output(self) -> None:
        """Take what was printed so far into account; ends the process when it is too much."""
        self._on_printed(0)
        self._on_output(0)

    def _on_printed(self, _events: int) -> None:
        if self._printed < 0:
            return
        try:
            while data := os.read(self._printed, 65536):
                if self.session is not None and self.session.streams is not None:
                    self.session.streams.add_error(data)
                for found in (self.branch, self.session):
                    if found is not None:
                        found.printed += len(data)
                        if found.printed > found.print_limit and not found.killed_at:
                            self.kill("output")
                if len(data) < 65536:
                    break
        except BlockingIOError:
            pass

    def _on_output(self, _events: int) -> None:
        found = self.session
        if found is None or found.streams is None or not found.streams.open:
            return
        found.printed += found.streams.read(max(0, found.print_limit - found.printed))
        if found.printed > found.print_limit and not found.killed_at:
            self.kill("output")
        if not found.streams.open:
            self.hub.forget(found.streams.fd)

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
        number, status, used, resident, marks = zygote.REPORT.unpack(data)
        found = self.session
        if found is None or number != found.number:
            return
        found.receive(session.NEVER)  # what it wrote before its end
        self.count_output()
        found.status, found.used, found.resident = status, used, resident
        self._dirty = bool(marks & zygote.DIRTY)
        if marks & zygote.FULL:
            found.reason = found.reason or "output"
        self.look_for_want_of_memory(found)
        # Without a hello the process never reached the program: the engine's fault.
        self._end(lost=not found.clock)
        self.hub.wake(self.worker)

    def look_for_want_of_memory(self, found: Session) -> None:
        """Whether the kernel killed a process for the cap on its group; asked only when something did."""
        if found.status & 0x7F == 9 and not found.reason and self._group is not None:
            with contextlib.suppress(OSError):
                found.out_of_memory = self._group.ran_out()

    def _end(self, lost: bool) -> None:
        found = self.session
        assert found is not None
        if self.branch is not None:
            self.branch.receive()
            self.branch.lost = lost
            self.end_branch()
        self.session = None
        self.hub.forget(found.sock.fileno())
        if found.streams is not None:
            self.hub.forget(found.streams.fd)
            found.streams.close()
        found.close()
        found.over = True
        found.lost = lost


class Worker:
    """Two zygotes and the flow of the job in hand."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.solutions = Cradle(self)
        self.tests = Cradle(self)
        self._beside: list[Cradle] = []  # for solutions that live at the same time
        self._commands: dict[bytes, Cradle] = {}
        self.flow: Flow | None = None
        self.job: Any = None
        self._served = 0

    def tick(self, now: float) -> None:
        """Look at the limits."""
        for cradle in self.cradles():
            cradle.tick(now)

    def next_check(self) -> float:
        """When to look at the limits next; infinity when nothing runs."""
        return min(cradle.next_check() for cradle in self.cradles())

    def cancel(self) -> None:
        """End what runs; the flow sees it."""
        for cradle in self.cradles():
            cradle.kill("cancelled")

    def cradles(self) -> list[Cradle]:
        """All of them."""
        return [self.solutions, self.tests, *self._beside, *self._commands.values()]

    def discard(self) -> None:
        """Let all zygotes go."""
        for cradle in self.cradles():
            cradle.discard()

    def abreast(self, place: int) -> Cradle:
        """The cradle of a solution that lives beside others, from place 0 on; made when first asked for."""
        while place > len(self._beside):
            self._beside.append(Cradle(self))
        return self._beside[place - 1] if place else self.solutions

    def commands(self, box: bytes) -> Cradle:
        """The cradle whose box holds what a command needs; made when first asked for. The one that was not
        used for longest makes room.
        """
        found = self._commands.pop(box, None) or Cradle(self, box)
        self._commands[box] = found
        if len(self._commands) > MAX_COMMAND_BOXES:
            self._commands.pop(next(iter(self._commands))).discard()
        return found

    def load(
        self,
        source: bytes,
        entry: str,
        limits: session.Limits,
        tests: int,
        role: bytes = zygote.SOLUTION,
        quiet: bool = False,
        cradle: Cradle | None = None,
    ) -> Session:
        """A solution's process with its program sent to it."""
        cradle = cradle or self.solutions
        started = cradle.fork(role, limits, tests, wire.MAX_BODY, quiet)
        started.send(wire.frame(wire.LOAD, 0, marshal.dumps((source, entry))))
        cradle.flow_control()
        return started

    def process_for_test(self, limits: session.Limits, trusted: bool) -> Generator[None, None, Session]:
        """A process for a test: one of its own, or for a trusted test the one that serves them all.

        Raises:
            Lost: There is no zygote to be had.
        """
        found = self.tests.session
        if found is not None and not (
            trusted and not found.reason and found.memory == limits[2] and self._served < SERVES
        ):
            self.tests.kill("done")
            yield from self.close(self.tests)
            found = None
        if found is None:
            self._served = 0
            found = self.tests.fork(zygote.TEST, limits, SERVES if trusted else 1, wire.MAX_TEST_BODY)
        self._served += 1
        found.cpu_limit, found.wall_limit, _, found.print_limit = limits
        found.printed = 0
        return found

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
