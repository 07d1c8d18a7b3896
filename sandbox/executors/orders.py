"""What an executor is asked for, what it answers, and what becomes of work that was lost with its worker."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..limits import Limits
from ..matrix import MatrixJob, PassMatrix
from ..program import Program
from ..timing import Timing, TimingJob
from ..verdict import InfraError, Isolation, Result, SandboxError, Verdict

MAX_DEATHS = 2  # of a worker, with one program alone in it
MAX_LOSSES = 6  # of any kind, for one piece of work


class Refused(SandboxError):
    """A failure that another try would not mend."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What a script did when it ran with nothing but its standard input.

    Attributes:
        verdict: `passed` means that it ended by itself; `return_code` says how.
        cause: As in `Result`.
        stdout: What it printed.
        stderr: Likewise.
        return_code: None where it was ended from outside.
        seconds: Wall time.
        files: Contents of the files that were asked for and exist.
        notes: As in `Result`.
    """

    verdict: Verdict
    cause: str
    stdout: bytes
    stderr: bytes
    return_code: int | None
    seconds: float
    files: tuple[tuple[str, bytes], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """A whole program that reads standard input and prints.

    Attributes:
        source: Its text.
        stdin: What it reads.
        language: A name of the registry of languages.
        files: Relative path and content of files laid into its working directory.
        fetch: Relative paths of files to read when it has ended.
        limits: The sandbox's own when absent.
    """

    source: str
    stdin: bytes = b""
    language: str = "python"
    files: tuple[tuple[str, bytes], ...] = ()
    fetch: tuple[str, ...] = ()
    limits: Limits | None = None


Work: TypeAlias = Program | MatrixJob | TimingJob | Script
Answer: TypeAlias = Result | InfraError | PassMatrix | Timing | Execution


@dataclass(frozen=True, slots=True)
class Order:
    """One piece of work.

    Attributes:
        work: What to run.
        all_tests: For programs: go on after a failing test.
    """

    work: Work
    all_tests: bool = False

    @property
    def id(self) -> str:
        """The work's own id, where it has one."""
        return str(getattr(self.work, "id", ""))


@dataclass(eq=False, slots=True)
class Entry:
    """An order on its way through a backend.

    Attributes:
        order: What to run.
        future: Who waits for it.
        packed: The order as it leaves this process, for backends where it does.
        deaths: How often a worker died with this work alone in it.
        losses: How often it was lost in any way.
    """

    order: Order
    future: Future[Answer] = field(default_factory=Future)
    packed: Any = None
    deaths: int = 0
    losses: int = 0

    def answer(self, found: Answer) -> None:
        """Hand the answer to who waits, unless they no longer do."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_result(found)

    def fail(self, error: BaseException) -> None:
        """Say that there will be no answer."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Backlog:
    """Work that waits. Work that was under way when a worker was lost waits apart and runs alone, so that
    the one program that ends workers is found and no other is blamed. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fresh: deque[Entry] = deque()
        self._suspects: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._fresh) + len(self._suspects)

    @property
    def fresh(self) -> int:
        """How many wait that are under no suspicion."""
        return len(self._fresh)

    @property
    def suspects(self) -> int:
        """How many wait that must run alone."""
        return len(self._suspects)

    def add(self, entry: Entry) -> None:
        """Append work."""
        with self._lock:
            self._fresh.append(entry)

    def take(self, count: int, matrices: int = 1) -> list[Entry]:
        """What waits longest and still has somebody waiting: up to `count` programs and scripts, or up to
        `matrices` matrices, or one timing.
        """
        found: list[Entry] = []
        most = count
        with self._lock:
            while self._fresh and len(found) < most:
                kind = _kind(self._fresh[0])
                if found and kind is not _kind(found[0]):
                    break
                entry = self._fresh.popleft()
                if not entry.future.done():
                    most = {Program: count, MatrixJob: matrices}.get(kind, 1)
                    found.append(entry)
        return found

    def take_suspect(self) -> Entry | None:
        """Work that must run alone, if any waits."""
        with self._lock:
            while self._suspects:
                entry = self._suspects.popleft()
                if not entry.future.done():
                    return entry
        return None

    def lost(self, entries: Sequence[Entry], reason: str, *, blame: bool) -> None:
        """A worker was lost with this work in it.

        Args:
            entries: All that was in it.
            reason: What is known of the loss.
            blame: The work may be the cause (a process died), not its surroundings (a machine went away).
        """
        alone = len(entries) == 1
        again: list[Entry] = []
        for entry in entries:
            entry.losses += 1
            entry.deaths += alone and blame
            if entry.deaths >= MAX_DEATHS:
                _convict(entry, reason)
            elif entry.losses >= MAX_LOSSES:
                entry.fail(SandboxError(f"lost {entry.losses} times with its worker: {reason}"))
            else:
                again.append(entry)
        with self._lock:
            suspect = [entry for entry in again if blame or entry.losses > MAX_LOSSES // 2]
            self._suspects.extend(suspect)
            self._fresh.extendleft(entry for entry in reversed(again) if entry not in suspect)

    def fail_all(self, error: BaseException) -> None:
        """Nothing that waits will be run."""
        with self._lock:
            entries = [*self._suspects, *self._fresh]
            self._suspects.clear()
            self._fresh.clear()
        for entry in entries:
            entry.fail(error)


def _kind(entry: Entry) -> type[Work]:
    """Of what goes out together; a script counts as a program."""
    kind = type(entry.order.work)
    return Program if kind is Script else kind


def _convict(entry: Entry, reason: str) -> None:
    work = entry.order.work
    if not isinstance(work, Program):
        entry.fail(
            SandboxError(f"{type(work).__name__} {entry.order.id!r} killed its worker twice: {reason}")
        )
        return
    unknown = Isolation("unknown", missing=("the worker died before it could say",))
    limits = work.limits or Limits()
    entry.answer(
        Result(work.id, Verdict.violation, "worker killed twice", reason[:500], (), 0.0, 0.0, unknown, limits)
    )
