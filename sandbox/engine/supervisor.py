"""The supervisor: one small process that takes jobs from the caller, spreads them over workers and sends
outcomes back.

It holds programs and tests, so it makes no zygotes itself (see nursery.py), and it runs nothing.
"""

from __future__ import annotations

import os
import select
import signal
import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from collections import deque
from collections.abc import Callable
from typing import Any

from . import nursery, wire, worker
from .endings import MAX_TRIES
from .jobs import RunJob, TestSet, TimeJob

Job = RunJob | TimeJob


class Supervisor:
    """The event loop."""

    def __init__(
        self, control: int, nursery_socket: socket, branches: bool, workers: int, parent: int
    ) -> None:
        self.branches = branches
        self._control = control
        self._nursery = nursery_socket
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._inbox = wire.Inbox()
        self._out: deque[memoryview] = deque()
        self._sets: dict[int, TestSet] = {}
        self._queue: deque[Job] = deque()
        self._awake: set[worker.Worker] = set()
        self._workers = [worker.Worker(self) for _ in range(workers)]
        os.set_blocking(control, False)
        self.watch(control, self._on_control)
        # End with the caller even if a child of its own still holds the other end of the control pipe.
        self._parent = os.pidfd_open(parent)
        self.watch(self._parent, lambda _events: os._exit(0))
        if os.getppid() != parent:
            os._exit(0)

    def watch(self, fd: int, handler: Callable[[int], None]) -> None:
        """Call the handler when the descriptor can be read."""
        self._handlers[fd] = handler
        self._poll.register(fd, select.EPOLLIN)

    def watch_write(self, fd: int, on: bool) -> None:
        """Also call it when the descriptor can be written."""
        if fd in self._handlers:
            self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if on else 0))

    def forget(self, fd: int) -> None:
        """Stop watching."""
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def new_zygote(self) -> tuple[int, socket, int]:
        """A zygote from the nursery.

        Raises:
            worker.Lost: It cannot make one.
        """
        return worker.request_zygote(self._nursery)

    def wake(self, found: worker.Worker) -> None:
        """Let the worker's job go on after this round of events."""
        self._awake.add(found)

    def report(self, content: Any) -> None:
        """Send to the caller."""
        self._out.append(memoryview(wire.message(content)))

    def prepare(self) -> bool:
        """Have all zygotes ready before the first program or test is read; False when this machine
        refuses.
        """
        try:
            for found in self._workers:
                found.solutions.prepare()
                found.tests.prepare()
        except worker.Lost as error:
            self.report(("refused", str(error)))
            return False
        pids = [c.pid for w in self._workers for c in (w.solutions, w.tests)]
        self.report(("ready", {"pid": os.getpid(), "zygotes": pids}))
        return True

    def loop(self) -> None:
        """Serve until the caller is gone."""
        while True:
            self._flush()
            now = time.monotonic()
            due = min(found.next_check() for found in self._workers)
            events = self._poll.poll(None if due == float("inf") else max(0.0, due - now))
            for fd, event in events:
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(event)
            now = time.monotonic()
            for found in self._workers:
                if found.next_check() <= now:
                    found.tick(now)
                    self._awake.add(found)
            awake, self._awake = self._awake, set()
            for found in awake:
                self._go_on(found)
            self._assign()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = os.write(self._control, self._out[0])
                if sent < len(self._out[0]):
                    self._out[0] = self._out[0][sent:]
                else:
                    self._out.popleft()
            self.watch_write(self._control, False)
        except BlockingIOError:
            self.watch_write(self._control, True)
        except OSError:
            os._exit(0)

    def _on_control(self, events: int) -> None:
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = os.read(self._control, 2**20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        for content in self._inbox.feed(data):
            self._order(content)

    def _order(self, content: Any) -> None:
        kind = content[0]
        if kind == "run":
            _, number, tests, source, entry, limits, all_tests, order, independent = content
            found = self._sets[tests] if isinstance(tests, int) else TestSet(tests)
            self._queue.append(RunJob(number, source, entry, found, order, limits, all_tests, independent))
        elif kind == "tests":
            self._sets[content[1]] = TestSet(content[2])
        elif kind == "drop":
            self._sets.pop(content[1], None)
        elif kind == "time":
            self._queue.append(TimeJob(*content[1:]))
        elif kind == "cancel":
            self._cancel(content[1])

    def _cancel(self, number: int) -> None:
        for job in list(self._queue):
            if job.number == number:
                self._queue.remove(job)
                self.report(("cancelled", number))
        for found in self._workers:
            if found.job is not None and found.job.number == number:
                found.job.cancelled = True
                found.cancel()
                self._awake.add(found)

    def _assign(self) -> None:
        for found in self._workers:
            while found.flow is None and self._queue:
                found.job = self._queue.popleft()
                found.flow = found.job.flow(found, self.report)
                self._go_on(found)

    def _go_on(self, found: worker.Worker) -> None:
        if found.flow is None:
            return
        try:
            next(found.flow)
        except StopIteration:
            found.flow = found.job = None
        except worker.Lost as error:
            self._again(found, str(error))

    def _again(self, found: worker.Worker, text: str) -> None:
        """Work lost with a zygote is done anew, from the first test that has no outcome."""
        job = found.job
        found.flow = found.job = None
        found.solutions.discard()
        found.tests.discard()
        job.tries += 1
        if job.tries < MAX_TRIES:
            self._queue.appendleft(job)
        else:
            self.report(("infra", job.number, text))


def main(settings: dict[str, Any]) -> None:
    """Run the engine on descriptor 0.

    Args:
        settings: `level`, `workers` (how many programs run at a time), `parent` (process number of the
            caller), `work` (directory for programs where there is no box).
    """
    level, work = settings["level"], settings["work"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    near, far = socketpair(AF_UNIX, SOCK_SEQPACKET)
    if os.fork() == 0:
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        near.close()
        try:
            nursery.main(far, level, work)
        finally:
            os._exit(1)
    far.close()
    branches = level == nursery.FULL  # without a box nothing would hold a program that may fork
    boss = Supervisor(0, near, branches, settings["workers"], settings["parent"])
    if not boss.prepare():
        os.set_blocking(0, True)
        boss._flush()
        os._exit(1)
    try:
        boss.loop()
    except BaseException as error:
        import traceback

        boss.report(("fatal", "".join(traceback.format_exception(error))))
        os.set_blocking(0, True)
        boss._flush()
    finally:
        os._exit(1)
