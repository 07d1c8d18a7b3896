"""The supervisor: one small process that takes jobs from the caller, spreads them over workers and sends
outcomes back.

It holds programs and tests, so it makes no zygotes itself (see nursery.py), and it runs nothing.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn

from ..isolation import libc
from ..isolation.place import PLACES
from . import command, wire, worker
from .endings import MAX_TRIES
from .jobs import RunJob, TestSet
from .nursing import Lost, Nursing, Zygote
from .timejob import TimeJob

Job = RunJob | TimeJob | command.ProgramJob


class Supervisor:
    """The event loop."""

    def __init__(self, control: int, nursing: Nursing, branches: bool, workers: int, parent: int) -> None:
        self.boxed = self.branches = branches
        self.artefacts = command.Artefacts()
        self._control = control
        self._nursing = nursing
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._inbox = wire.Inbox()
        self._out: deque[memoryview] = deque()
        self._sets: dict[int, TestSet] = {}
        self._queue: deque[Job] = deque()
        self._awake: set[worker.Worker] = set()
        self._cores = sorted(os.sched_getaffinity(0))
        self._workers = [worker.Worker(self) for _ in range(workers)]
        os.set_blocking(control, False)
        self.watch(control, self._on_control)
        # End with the caller even if a child of its own still holds the other end of the control pipe.
        self._parent = os.pidfd_open(parent)
        self.watch(self._parent, lambda _events: self.leave())
        if os.getppid() != parent:
            self.leave()

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

    def new_zygote(self, box: bytes) -> Zygote:
        """A zygote from the nursery.

        Args:
            box: Empty, or what the box of a zygote for commands holds, as marshal data.

        Raises:
            Lost: It cannot make one.
        """
        return self._nursing.new_zygote(box)

    def leave(self) -> NoReturn:
        """End all zygotes and the nursery, wait for them, end."""
        for found in self._workers:
            found.discard()
        self._nursing.close()
        os._exit(0)

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
        except Lost as error:
            self.report(("refused", str(error)))
            return False
        pids = [c.pid for w in self._workers for c in (w.solutions, w.tests)]
        facts = self._workers[0].solutions.facts
        known = {"pid": os.getpid(), "nursery": self._nursing.pid, "zygotes": pids, "isolation": facts}
        self.report(("ready", known))
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
            self.leave()

    def _on_control(self, events: int) -> None:
        if not events & ~select.EPOLLOUT:
            return
        try:
            data = os.read(self._control, 2**16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
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
        elif kind == "command":
            tests = content[2]
            found = self._sets[tests] if isinstance(tests, int) else TestSet(tests)
            self._queue.append(command.ProgramJob(content[1], found, *content[3:]))
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
            while found.flow is None and (job := self._next_job()) is not None:
                found.job = job
                found.flow = job.flow(found, self.report)
                self._go_on(found)

    def _next_job(self) -> Job | None:
        """The first job that may begin. Jobs that time calls go on at once on a core of their own each, and
        leave one core to everything else unless they say that they need not.
        """
        if not self._queue:
            return None
        timing = {w.job.core for w in self._workers if isinstance(w.job, TimeJob)}
        cores = [core for core in self._cores if core not in timing]
        left = len(cores) - (len(self._cores) > 1)
        for job in self._queue:
            if isinstance(job, TimeJob):
                if not cores or (left < 1 and not job.every_core):
                    continue
                job.core = cores[-1]
            self._queue.remove(job)
            return job
        return None

    def _go_on(self, found: worker.Worker) -> None:
        if found.flow is None:
            return
        try:
            next(found.flow)
        except StopIteration:
            found.flow = found.job = None
        except Lost as error:
            self._again(found, str(error))

    def _again(self, found: worker.Worker, text: str) -> None:
        """Work lost with a zygote is done anew, from the first test that has no outcome."""
        job = found.job
        found.flow = found.job = None
        found.discard()
        job.tries += 1
        if job.tries < MAX_TRIES:
            self._queue.appendleft(job)
        else:
            self.report(("infra", job.number, text))


def main(settings: dict[str, Any], boot: str) -> None:
    """Run the engine on descriptor 0.

    Args:
        settings: `level`, `workers` (how many programs run at a time), `parent` (process number of the
            caller), `work` (where to make directories for programs that have no box).
        boot: Path of boot.py.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's
    boxed = PLACES[settings["level"]].boxed
    if not boxed:
        libc.not_dumpable()  # programs of the same user might read it otherwise
    # Without a box nothing would hold a program that may fork.
    boss = Supervisor(0, Nursing(boot, settings), boxed, settings["workers"], settings["parent"])
    if not boss.prepare():
        os.set_blocking(0, True)
        boss._flush()
        boss.leave()
    try:
        boss.loop()
    except BaseException as error:
        import traceback

        boss.report(("fatal", "".join(traceback.format_exception(error))))
        os.set_blocking(0, True)
        boss._flush()
    finally:
        os._exit(1)
