"""Programs on stdin/stdout, and programs of other languages: compile once, run once a test.

Every process here is a session as any other: forked from a zygote in a box, watched by its clocks. What a
program printed goes to the caller, who compares it; only a checker of the user's own runs here, in the test
box.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import re
import time
from collections import OrderedDict
from collections.abc import Generator, Sequence
from typing import Any

from . import checking, launch, wire, zygote
from .endings import MAX_TIMEOUTS, Outcome, broken, ending, raise_if_lost
from .jobs import Report, TestSet
from .nursing import Lost
from .session import Limits, Session
from .streams import Streams
from .worker import Cradle, Flow, Worker

IO_TEST, APPENDED = 5, 6
MAX_ARTEFACT = 32 * 2**20
_STORED = 256 * 2**20  # of what is made from trusted input
_STDIN_FILE = 24 * 2**20  # longest input that is put into a file
_FILES = 64 * 2**20  # of a command's work directory
_CACHE_BYTES = 128 * 2**20
_MAX_FRAME = 65536
_PASSED: Outcome = ("passed", "", "")
_CHECKER_CPU = 5.0


class Artefacts:
    """What compilers made, in memory, bounded: least recently used goes first."""

    def __init__(self, most: int = _CACHE_BYTES) -> None:
        self._most = most
        self._size = 0
        self._found: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> bytes | None:
        """The artefact, if it is there."""
        if key in self._found:
            self._found.move_to_end(key)
        return self._found.get(key)

    def put(self, key: bytes, archive: bytes) -> None:
        """Keep one."""
        self._size += len(archive) - len(self._found.pop(key, b""))
        self._found[key] = archive
        while self._size > self._most and len(self._found) > 1:
            self._size -= len(self._found.popitem(last=False)[1])


class CompileFailed(Exception):
    """Its argument is the outcome."""


class ProgramJob:
    """One program and its tests.

    Args:
        number: The job's.
        tests: Of kind `IO_TEST`, (stdin, args, (checker, expected) or None), or of kind `APPENDED`, text to
            be put behind the source.
        source: The program.
        plan: How to compile and run it, as `languages.base.Plan.wire` makes it; None for Python.
        limits: Of each test.
        all_tests: Go on after a crash or timeout.
        order: Of the tests, if not the given one.
    """

    def __init__(
        self,
        number: int,
        tests: TestSet,
        source: bytes,
        plan: dict[str, Any] | None,
        limits: Limits,
        all_tests: bool,
        order: Sequence[int] | None = None,
    ) -> None:
        self.number = number
        self.tests = tests.tests if order is None else [tests.tests[i] for i in order]
        self.source = source
        self.plan = plan
        self.limits = limits
        self.all_tests = all_tests
        self.cancelled = False
        self.tries = 0
        self.used = 0.0
        self.at = 0
        self.timeouts = 0

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Run it; every test's outcome is reported once."""
        begin = time.monotonic()
        try:
            if self.plan is not None and not any(kind == APPENDED for kind, _ in self.tests):
                yield from self._artefact(worker, self.source)
            while self.at < len(self.tests) and not self.cancelled and self.timeouts < MAX_TIMEOUTS:
                yield from self._test(worker, report)
        except CompileFailed as failure:
            report(("load", self.number, *failure.args[0]))
        report(("done", self.number, self.used, time.monotonic() - begin))

    def _test(self, worker: Worker, report: Report) -> Flow:
        kind, body = self.tests[self.at]
        output, score = b"", -1.0
        if kind == APPENDED:
            outcome, _, seconds = yield from self._appended(worker, body)
        else:
            stdin, args, check = marshal.loads(body)
            outcome, output, seconds = yield from self._run(worker, self.source, stdin, args)
            if outcome == _PASSED and check is not None:
                outcome, score = yield from self._check(worker, (check[0], stdin, check[1], output))
            if check is not None or outcome != _PASSED:
                output = b""
        if self.cancelled:
            return
        report(("output", self.number, self.at, *outcome, output, seconds, score))
        self.at += 1
        self.timeouts += outcome[0] == "timeout"
        if outcome[0] != "passed" and not self.all_tests:
            self.cancelled = True

    def _appended(self, worker: Worker, text: bytes) -> Generator[None, None, tuple[Outcome, bytes, float]]:
        assert self.plan is not None
        try:
            outcome, output, seconds = yield from self._run(worker, self.source + b"\n" + text, b"", ())
        except CompileFailed as failure:
            return failure.args[0], b"", 0.0
        if outcome[0] == "runtime_error" and any(mark in outcome[2] for mark in self.plan["assertion_marks"]):
            outcome = ("wrong_answer", "", outcome[2])
        return outcome, output, seconds

    def _run(
        self, worker: Worker, source: bytes, stdin: bytes, args: tuple[str, ...]
    ) -> Generator[None, None, tuple[Outcome, bytes, float]]:
        """Outcome, standard output and CPU seconds of one run."""
        archive = b"" if self.plan is None else (yield from self._artefact(worker, source))
        streams = Streams(stdin)
        if self.plan is None:
            order: Any = (source, args, _wants_file(worker, source, stdin))
            session = _start(worker.solutions, zygote.SCRIPT, self.limits, streams, order)
            frame = yield from _until_over(worker.solutions, session, self.tries)
        else:
            step = self.plan["run"]
            files = [] if self.plan["compile"] else [(self.plan["file"], 0o400, source)]
            order = _order(step, files, archive, [*step["argv"], *args])
            order["stdin_file"] = _wants_file(worker, source, stdin)
            cradle = worker.commands(step["box"])
            session = _start(cradle, launch.RUN, self.limits, streams, order, _cap(step))
            frame = yield from _until_over(cradle, session, self.tries)
        self.used += session.used
        outcome = self._outcome(session, streams, frame)
        return outcome, streams.output if outcome == _PASSED else b"", session.used

    def _outcome(self, session: Session, streams: Streams, frame: tuple[int, bytes] | None) -> Outcome:
        if session.reason:
            return ending(session)
        if frame is not None and frame[0] == wire.BROKEN:
            raise CompileFailed(broken(frame[1]))
        if frame is not None and frame[0] == wire.FAILED:
            cause, text = wire.error(frame[1])
            return ("memory_limit" if cause == "MemoryError" else "runtime_error", cause, text)
        if session.used > session.cpu_limit + 0.05:
            return ("timeout", "cpu", "")  # with children that the clock outside does not count
        if session.status == 0:
            return _PASSED
        outcome = ending(session)
        if outcome[0] == "runtime_error":
            return _explained(outcome, streams.errors, self.plan)
        return outcome

    def _check(
        self, worker: Worker, check: tuple[bytes, bytes, bytes, bytes]
    ) -> Generator[None, None, tuple[Outcome, float]]:
        """What a checker of the user's own says."""
        worker.tests.kill("done")  # the process that serves trusted tests, if it is there
        yield from worker.close(worker.tests)
        cpu, wall, memory, output = self.limits
        cpu = max(cpu, _CHECKER_CPU)
        limits = (cpu, max(wall, 4 * cpu), memory, output)
        session = worker.tests.fork(zygote.CHECK, limits, 1, _MAX_FRAME)
        session.send(wire.frame(wire.TEST, 0, marshal.dumps(check)))
        worker.tests.flow_control()
        while not session.frames and not session.over:
            yield
        kind, _, body = session.frames[0] if session.frames else (0, 0, b"")
        worker.tests.kill("done")
        yield from worker.close(worker.tests)
        raise_if_lost(session, self.tries)
        if kind == checking.SCORE and len(body) == checking.SCORE_BODY.size:
            (score,) = checking.SCORE_BODY.unpack(body)
            if score == 1:
                return _PASSED, score
            return ("wrong_answer", "", f"the checker gave {score:g}"), score
        if kind == wire.ERROR:
            cause, text = wire.error(body)
            return ("runtime_error", f"test:{cause}", text), -1.0
        verdict, cause, text = ending(session) if not kind else ("violation", "protocol", "")
        return (verdict, f"test:{cause}", text), -1.0

    def _artefact(self, worker: Worker, source: bytes) -> Generator[None, None, bytes]:
        """Compiled files as one piece; empty where nothing is compiled.

        Raises:
            CompileFailed: The program does not compile.
        """
        assert self.plan is not None
        step = self.plan["compile"]
        if step is None:
            return b""
        cache: Artefacts = worker.hub.artefacts
        key = hashlib.sha256(self.plan["key"] + b"\0" + source).digest()
        found = cache.get(key)
        if found is None:
            found = yield from _compile(worker, self.plan, source, self.tries)
            if self.plan["store"]:
                _store(self.plan["store"], found)
            else:
                cache.put(key, found)
        return found


def _compile(worker: Worker, plan: dict[str, Any], source: bytes, tries: int) -> Generator[None, None, bytes]:
    step = plan["compile"]
    cradle = worker.commands(step["box"])
    streams = Streams(b"")
    order = _order(step, [(plan["file"], 0o400, source)], b"", step["argv"])
    session = _start(cradle, launch.KEEP, step["limits"], streams, order, _cap(step))
    yield from _until_over(cradle, session, tries)
    outcome = _compiled(session, streams, plan["memory_marks"])
    # Also after a failure: the collector's end clears the work directory.
    streams = Streams(b"")
    order = {"names": plan["names"] if outcome == _PASSED else []}
    limits = (20.0, 60.0, 2**31, _STORED if plan["store"] else MAX_ARTEFACT)
    collector = _start(cradle, launch.COLLECT, limits, streams, order)
    yield from _until_over(cradle, collector, tries)
    if outcome == _PASSED and collector.reason == "output":
        outcome = ("output_limit", "compile", "the compiled program is too large")
    if outcome != _PASSED:
        raise CompileFailed(outcome)
    if collector.reason or collector.status:
        raise Lost("compiled files could not be collected")
    return streams.output


def _compiled(session: Session, streams: Streams, memory_marks: list[str]) -> Outcome:
    text = (streams.errors + streams.output.decode("utf-8", "replace"))[:490]
    if not session.reason and session.status == 0:
        return _PASSED
    verdict, _, _ = ending(session)
    if verdict == "timeout" or session.used > session.cpu_limit:
        return ("timeout", "compile", text)
    if verdict in ("output_limit", "violation", "memory_limit"):
        return (verdict, "compile", text)
    if any(mark in streams.errors for mark in memory_marks):
        return ("memory_limit", "compile", text)
    return ("syntax_error", "compile", text)


def _explained(outcome: Outcome, errors: str, plan: dict[str, Any] | None) -> Outcome:
    """A failure with what the program's error text says of it; the text can only change how it is called.

    Raises:
        CompileFailed: An interpreter could not parse the program.
    """
    verdict, cause, text = outcome
    text = errors or text
    if plan is None:
        return (verdict, cause, text)
    if any(mark in errors for mark in plan["syntax_marks"]):
        raise CompileFailed(("syntax_error", "SyntaxError", text))
    if any(mark in errors for mark in plan["memory_marks"]):
        verdict = "memory_limit"
    found = re.search(plan["cause_pattern"], errors) if plan["cause_pattern"] else None
    return (verdict, found[1] if found else cause, text)


def _cap(step: dict[str, Any]) -> int:
    """Bytes for the control group: the first bound on memory is the closest."""
    return int(step["memory"][0][1]) + _FILES


def _start(
    cradle: Cradle, role: bytes, limits: Limits, streams: Streams, order: Any, cap: int = 0
) -> Session:
    """Fork a process with streams and send it its order.

    Raises:
        Lost: There is no zygote to be had.
    """
    try:
        session = cradle.fork(role, limits, 1, _MAX_FRAME, streams=streams, cap=cap)
    except Lost:
        streams.close()
        raise
    session.send(wire.frame(wire.LOAD, 0, marshal.dumps(order)))
    return session


def _order(
    step: dict[str, Any], files: list[tuple[str, int, bytes]], archive: bytes, argv: list[str]
) -> dict[str, Any]:
    names = ("environment", "memory", "forks", "file_bytes")
    return {
        "argv": argv,
        "files": files,
        "archive": archive,
        "stdin_file": False,
        **{name: step[name] for name in names},
    }


def _until_over(
    cradle: Cradle, session: Session, tries: int
) -> Generator[None, None, tuple[int, bytes] | None]:
    """Wait for a process's end; the one frame it may have sent.

    Raises:
        Lost: Its zygote ended, or the command could not be started.
    """
    frame: tuple[int, bytes] | None = None
    cradle.flow_control()
    while True:
        while session.frames:
            kind, _, body = session.frames.popleft()
            if frame is not None:
                cradle.kill("violation")
            frame = (kind, body)
        if session.over:
            break
        yield
    raise_if_lost(session, tries)
    # From a command's box this is never the program's own word: exec closes the pipe.
    if frame is not None and frame[0] == wire.ERROR and cradle.box:
        raise Lost(f"a command did not start: {frame[1].decode('utf-8', 'replace')}")
    return frame


def _wants_file(worker: Worker, source: bytes, stdin: bytes) -> bool:
    """Whether the input must also be a file of the box."""
    return worker.hub.boxed and b"/dev/stdin" in source and len(stdin) <= _STDIN_FILE


def _store(folder: str, archive: bytes) -> None:
    """Write files that only trusted input went into (a precompiled header) where later boxes find them."""
    for name, _, content in marshal.loads(archive):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
        os.replace(f"{path}.{os.getpid()}", path)
