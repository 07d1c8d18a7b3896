"""The caller's end of the engine: starts the supervisor's process and passes messages."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .engine import wire
from .verdict import IsolationUnavailable, SandboxError

_BOOT = Path(__file__).parent / "engine" / "boot.py"
_START_SECONDS = 60.0
Handler = Callable[[tuple[Any, ...]], None]


def engine_command(*arguments: str) -> list[str]:
    """Command line of the engine's own interpreter: no site packages, nothing of the current directory."""
    # -I would ignore PYTHONHASHSEED: with a fixed one, sets of texts have one order in every run.
    return [sys.executable, "-s", "-S", "-P", str(_BOOT), *arguments]


ENGINE_ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "2",
    "LC_ALL": "C.UTF-8",
    # A library that is loaded before the fork must not have made threads, which no child would have.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class Client:
    """A running supervisor. Thread-safe; unusable in a forked child of the process that made it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._turn = threading.Lock()  # whose turn it is to wait for the engine
        self._inbox = wire.Inbox()
        self._handlers: dict[int, Handler] = {}
        self._out = bytearray()
        self._counter = 0
        self._closed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the client
        self.info: dict[str, Any] = {}
        self._socket, far = socket.socketpair()
        work = os.path.realpath(tempfile.gettempdir())
        try:
            self._process = subprocess.Popen(
                engine_command("serve", json.dumps({**settings, "parent": self._owner, "work": work})),
                stdin=far.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=ENGINE_ENVIRONMENT,
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        finally:
            far.close()
        try:
            self._await_start()
        except BaseException:
            self.close()
            raise

    def _await_start(self) -> None:
        self._socket.settimeout(_START_SECONDS)
        found: list[Any] = []
        while not found:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise SandboxError(f"the engine did not start within {_START_SECONDS:.0f} s") from None
            if not data:
                raise SandboxError(f"the engine did not start: {self._error_text()}")
            found = self._inbox.feed(data)
        self._socket.setblocking(False)
        kind, content = found[0]
        if kind != "ready" and str(content).startswith("library"):
            raise SandboxError(f"the engine did not start: {content}")
        if kind != "ready":
            raise IsolationUnavailable(str(content))
        self.info = dict(content)

    def _error_text(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace").strip()
        return text[-2000:] or f"it ended with status {self._process.returncode}"

    def number(self, handler: Handler) -> int:
        """A new job number whose messages go to the handler."""
        with self._lock:
            self._counter += 1
            self._handlers[self._counter] = handler
            return self._counter

    def forget(self, number: int) -> None:
        """Messages of this job are dropped from now on."""
        with self._lock:
            self._handlers.pop(number, None)

    def send(self, content: tuple[Any, ...]) -> None:
        """Queue a message; it goes out with the next `pump`, or now when there is room."""
        with self._lock:
            self._usable()
            self._out += wire.message(content)
            self._write()

    def pump(self, timeout: float | None = None) -> None:
        """Pass messages both ways; wait for at least one event unless `timeout` seconds go by first.

        One thread at a time waits, without the lock, so that others can send meanwhile; a thread that finds
        another one waiting comes back when that one has passed messages, to look whether its own are there.

        Raises:
            SandboxError: The engine is gone.
        """
        if not self._turn.acquire(blocking=False):
            if self._turn.acquire(timeout=-1 if timeout is None else timeout):
                self._turn.release()
            return
        try:
            poll = select.poll()
            with self._lock:
                self._usable()
                poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._out else 0))
            happened = poll.poll(None if timeout is None else timeout * 1000)
            with self._lock:
                self._usable()
                for _, events in happened:
                    if events & select.POLLOUT:
                        self._write()
                    if events & ~select.POLLOUT:
                        self._read()
        finally:
            self._turn.release()

    def fileno(self) -> int:
        """Descriptor to wait on for messages of the engine, for a caller with an event loop of its own."""
        return self._socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether there is more to send than the pipe took."""
        return bool(self._out)

    def _write(self) -> None:
        try:
            while self._out:
                sent = self._socket.send(self._out[: 2**20])
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._died()

    def _read(self) -> None:
        try:
            data = self._socket.recv(2**16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
        for content in self._inbox.feed(data):
            if content[0] == "fatal":
                raise SandboxError(f"the engine failed: {content[1]}")
            handler = self._handlers.get(content[1])
            if handler is not None:
                handler(content)

    def _died(self) -> None:
        raise SandboxError(f"the engine is gone: {self._error_text()}")

    @property
    def usable(self) -> bool:
        """Whether messages can still be sent."""
        return not self._closed and os.getpid() == self._owner

    def _usable(self) -> None:
        if self._closed:
            raise SandboxError("this sandbox is closed; make a new one")
        if os.getpid() != self._owner:
            raise SandboxError(
                "this sandbox belongs to another process; make one in each process that needs one"
            )

    def close(self) -> None:
        """End the engine and everything it runs."""
        if self._closed:
            return
        self._closed = True
        self._socket.close()
        if os.getpid() != self._owner:
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
