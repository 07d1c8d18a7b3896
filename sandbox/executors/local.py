"""Programs run on this machine, in a `Sandbox`.

One thread of its own talks to the engine: it hands on as much work as keeps the workers busy and waits for
answers and new orders at the same time. So any number of threads and coroutines share one pool, none of them
waits for another, and an event loop is never blocked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..languages import LanguageUnavailable
from ..limits import Limits
from ..matrix import MatrixJob
from ..pool import Sandbox
from ..program import Program
from ..timing import TimingJob
from ..verdict import SandboxError
from .base import Executor, Policy
from .keys import engine_version, library_versions
from .orders import Answer, Backlog, Entry, Order, Refused, Script
from .registry import register
from .scripts import ScriptRun

_DEFAULT = Limits()
_IDLE_SECONDS = 5.0
_CLOSED = Refused("the executor was closed while it ran this")


@register("local")
class LocalExecutor(Executor):
    """A `Sandbox` behind the common interface.

    When the engine dies (it can be killed from outside like any process), a new one is started and the work
    that was under way is done again, each piece alone.

    Args:
        workers: How many programs run at a time; by default one a processor.
        policy: Retries, sharing, cache, and when to give up.
        **options: Passed on to `Sandbox`: limits, require, hard_limits, ...

    Raises:
        IsolationUnavailable: This machine does not give what is required.
        SandboxError: The engine could not be started.
    """

    name = "local"

    def __init__(self, workers: int | None = None, *, policy: Policy | None = None, **options: Any) -> None:
        super().__init__(policy)
        self._make: Callable[[], Sandbox] = lambda: Sandbox(workers, **options)
        sandbox = self._make()
        self._workers = sandbox.workers
        self._isolation = sandbox.isolation
        settings = sorted((key, repr(value)) for key, value in {"limits": _DEFAULT, **options}.items())
        libraries = library_versions(options.get("libraries", ()))
        text = f"{engine_version()} {self._isolation} {settings} {libraries}"
        self._environment = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._pump = _Pump(sandbox, self._make)

    @property
    def workers(self) -> int:
        """How many programs run at a time."""
        return self._workers

    def _submit(self, order: Order) -> Future[Answer]:
        return self._pump.take(order)

    def close(self) -> None:
        """End all workers and whatever they run; what is under way fails with `SandboxError`."""
        self._pump.close()


class _Pump:
    """The thread that talks to the engine."""

    def __init__(self, sandbox: Sandbox, make: Callable[[], Sandbox]) -> None:
        self._make = make
        self._sandbox: Sandbox | None = sandbox
        self._window = 2 * sandbox.workers + 2
        self._backlog = Backlog()
        self._running: dict[Entry, _Job] = {}
        self._alone = False
        self._cancelled: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._closing = False
        self._owner = os.getpid()
        self._ended = False
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._thread = threading.Thread(target=self._loop, name="sandbox-pump", daemon=True)
        self._thread.start()

    def take(self, order: Order) -> Future[Answer]:
        """Queue an order.

        Raises:
            SandboxError: Closed, or of another process.
        """
        if self._closing:
            raise SandboxError("this executor is closed; make a new one")
        if os.getpid() != self._owner:
            raise SandboxError(
                "this executor belongs to another process; make one in each process that needs one"
            )
        entry = Entry(order)
        entry.future.add_done_callback(lambda future: self._gone(entry, future))
        self._backlog.add(entry)
        if self._ended:
            self._backlog.fail_all(_CLOSED)
        self._ring()
        return entry.future

    def _gone(self, entry: Entry, future: Future[Answer]) -> None:
        if future.cancelled():
            self._cancelled.put(entry)
            self._ring()

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: it rings already; closed: nobody listens
            self._bell.send(b".")

    def close(self) -> None:
        """End the engine; whatever waits is told so."""
        self._closing = True
        if os.getpid() != self._owner:
            return
        self._ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _loop(self) -> None:
        try:
            while not self._closing:
                try:
                    self._round()
                except SandboxError as error:
                    self._engine_lost(error)
                except Exception as error:
                    self._engine_lost(SandboxError(f"{type(error).__name__}: {error}"))
        finally:
            self._end()

    def _end(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
        for entry in list(self._running):
            entry.fail(_CLOSED)
        self._running.clear()
        self._ended = True
        self._backlog.fail_all(_CLOSED)
        self._bell.close()
        self._ear.close()

    def _round(self) -> None:
        self._drop_cancelled()
        self._start_more()
        self._wait()
        for entry, job in list(self._running.items()):
            if job.decided:
                del self._running[entry]
                _settle(entry, job)
                job.release()

    def _drop_cancelled(self) -> None:
        while True:
            try:
                entry = self._cancelled.get_nowait()
            except queue.Empty:
                return
            job = self._running.pop(entry, None)
            if job is not None:
                job.release()

    def _start_more(self) -> None:
        """Fill the engine; work under suspicion gets it for itself."""
        if not self._running:
            self._alone = False
        if self._backlog.suspects:
            if not self._running and (entry := self._backlog.take_suspect()):
                self._alone = True
                self._start(entry)
            return
        if self._alone:
            return
        while len(self._running) < self._window and (entries := self._backlog.take(1)):
            self._start(entries[0])

    def _start(self, entry: Entry) -> None:
        if self._sandbox is None:
            try:
                self._sandbox = self._make()
            except BaseException as error:
                entry.fail(error if isinstance(error, SandboxError) else SandboxError(repr(error)))
                return
        try:
            self._running[entry] = _Job(self._sandbox, entry.order)
        except (ValueError, TypeError) as error:  # what the sandbox refuses: the asker's matter
            entry.fail(error)
        except LanguageUnavailable as error:
            entry.fail(Refused(str(error)))
        except SandboxError as error:
            self._backlog.lost([entry], str(error), blame=False)
            raise

    def _wait(self) -> None:
        """Until the engine or an asker says something."""
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        client = None if self._sandbox is None else self._sandbox._client
        if client is not None:
            poll.register(client.fileno(), select.POLLIN | (select.POLLOUT if client.unsent else 0))
        happened = dict(poll.poll(_IDLE_SECONDS * 1000))
        if self._ear.fileno() in happened:
            with contextlib.suppress(BlockingIOError):
                self._ear.recv(65536)
        if client is not None and client.fileno() in happened:
            client.pump(0)

    def _engine_lost(self, error: SandboxError) -> None:
        entries = [entry for entry in self._running if not entry.future.done()]
        self._running.clear()
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
        self._backlog.lost(entries, str(error), blame=True)


def _settle(entry: Entry, job: _Job) -> None:
    try:
        answer = job.result()
    except Exception as error:  # the asker's, or the engine's: whoever waits is told
        entry.fail(error)
    else:
        entry.answer(answer)


class _Job:
    """One order in the engine."""

    def __init__(self, sandbox: Sandbox, order: Order) -> None:
        work = order.work
        self._finish: Callable[[], Answer]
        state: Any
        if isinstance(work, Program):
            program, state = work, sandbox._start_program(work, order.all_tests)
            self._finish = lambda: sandbox._result(program, state)
        elif isinstance(work, Script):
            state = ScriptRun(sandbox, work)
            self._finish = state.result
        elif isinstance(work, MatrixJob):
            state = sandbox._start_matrix(work)
            self._finish = state.result
        elif isinstance(work, TimingJob):
            state = sandbox._start_timing(work)
            self._finish = state.timing
        else:
            raise TypeError(
                f"work is of type {type(work).__name__}; give a Program, MatrixJob, TimingJob or Script"
            )
        self._state = state

    @property
    def decided(self) -> bool:
        """Whether the answer is known."""
        return bool(self._state.decided)

    def release(self) -> None:
        """Nothing more is wanted of the engine."""
        self._state.release()

    def result(self) -> Answer:
        """The answer.

        Raises:
            SandboxError: The engine failed on it repeatedly.
        """
        return self._finish()
