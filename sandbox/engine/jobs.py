"""What a worker does for one job, as generators that yield whenever they must wait for a process."""

from __future__ import annotations

import marshal
import math
import time
from collections.abc import Callable, Generator
from typing import Any

from . import wire, zygote
from .session import Limits, Session
from .worker import Flow, Worker

MAX_TIMEOUTS = 3
CALL_TEST, CODE_TEST = 0, 1
_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
_ANSWERS = frozenset((wire.VALUE, wire.FAILED, wire.REFUSED))
Report = Callable[[Any], None]
Outcome = tuple[str, str, str]  # verdict, cause, text


class TestSet:
    """Tests as the caller sent them, and the frames of the calls made once for all programs."""

    def __init__(self, tests: list[tuple[int, bytes]]) -> None:
        self.tests = tests
        self.frames = [
            wire.frame(wire.CALL, i, body) if kind == CALL_TEST else b""
            for i, (kind, body) in enumerate(tests)
        ]
        self._joined: dict[int, tuple[int, bytes]] = {}

    def calls_from(self, start: int) -> tuple[int, bytes]:
        """Where the run of call tests that begins at `start` ends, and its frames."""
        if start not in self._joined:
            end = start
            while end < len(self.tests) and self.tests[end][0] == CALL_TEST:
                end += 1
            joined = (end, b"".join(self.frames[start:end]))
            if start:
                return joined
            self._joined[start] = joined
        return self._joined[start]


class RunJob:
    """One program and its tests."""

    def __init__(
        self, number: int, source: bytes, entry: str, tests: TestSet, limits: Limits, all_tests: bool
    ) -> None:
        self.number = number
        self.source = source
        self.entry = entry
        self.tests = tests
        self.limits = limits
        self.all_tests = all_tests
        self.cancelled = False
        self.at = 0  # the first test that has no outcome
        self.timeouts = 0
        self.used = 0.0
        self.tries = 0

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Run it; every test's outcome is reported once."""
        begin = time.monotonic()
        count = len(self.tests.tests)
        more = True
        while more and not self.cancelled:
            more = yield from self._attempt(worker, report)
            more = more and self.at < count
        report(("done", self.number, self.used, time.monotonic() - begin))

    def _attempt(self, worker: Worker, report: Report) -> Generator[None, None, bool]:
        """Run tests in one process until it ends; whether the rest deserve another process."""
        count = len(self.tests.tests)
        solution = worker.load(self.source, self.entry, self.limits, count - self.at)
        end, calls = self.tests.calls_from(self.at)
        if calls:
            solution.send(calls)
        if end == count:
            solution.finish()
        worker.solutions.flow_control()
        alive = yield from self._loading(solution, report)
        if alive:
            alive = yield from self._tests(worker, solution, report)
        yield from worker.close(worker.solutions)
        self.used += solution.used
        if alive or self.at >= count or self.cancelled:
            return False
        if alive is None:
            return False
        verdict, cause, text = ending(solution)
        self.timeouts += verdict == "timeout"
        report(("cell", self.number, self.at, verdict, cause, text, solution.used))
        self.at += 1
        return self.all_tests and self.timeouts < MAX_TIMEOUTS

    def _loading(self, solution: Session, report: Report) -> Generator[None, None, bool | None]:
        """True when loaded; None when it did not load, which is the outcome of all remaining tests."""
        while not solution.frames and not solution.over:
            yield
        if solution.frames:
            kind, _, body = solution.frames.popleft()
            if kind == wire.LOADED:
                solution.mark()
                return True
            verdict, cause, text = broken(body) if kind == wire.BROKEN else ("violation", "protocol", "")
        else:
            _raise_if_lost(solution)
            verdict, cause, text = ending(solution)
        report(("load", self.number, verdict, cause, text))
        return None

    def _tests(self, worker: Worker, solution: Session, report: Report) -> Generator[None, None, bool]:
        """False when the process ended before all outcomes were known."""
        count = len(self.tests.tests)
        while self.at < count:
            if self.tests.tests[self.at][0] == CALL_TEST:
                alive = yield from self._calls(worker, solution, report)
            else:
                alive = yield from self._code_test(worker, solution, report)
                if alive and self.at < count and self.tests.tests[self.at][0] == CALL_TEST:
                    solution.send(self.tests.calls_from(self.at)[1])
                    worker.solutions.flow_control()
            if not alive:
                return False
        return True

    def _calls(self, worker: Worker, solution: Session, report: Report) -> Generator[None, None, bool]:
        """Collect answers to the calls that are under way."""
        end, _ = self.tests.calls_from(self.at)
        solution.mark()
        before = solution.used
        while self.at < end:
            while not solution.frames and not solution.over:
                yield
            if not solution.frames:
                _raise_if_lost(solution)
                return False
            answers = []
            start = self.at
            while solution.frames and self.at < end:
                kind, number, body = solution.frames.popleft()
                if kind not in _ANSWERS or number != self.at:
                    worker.solutions.kill("violation")
                    break
                answers.append((kind, body))
                self.at += 1
            now = solution.mark()
            if answers:
                report(("calls", self.number, start, answers, (now - before) / len(answers)))
            before = now
        return True

    def _code_test(self, worker: Worker, solution: Session, report: Report) -> Generator[None, None, bool]:
        """One test in the test process. Its calls are handed on, bytes unread."""
        test = worker.tests.fork(self.limits, 1, wire.MAX_CALL_BODY)
        test.send(wire.frame(wire.TEST, 0, marshal.dumps((self.tests.tests[self.at][1], self.entry))))
        worker.tests.flow_control()
        before = solution.mark()
        outcome = yield from _converse(worker, solution, test)
        worker.tests.kill("done")
        yield from worker.close(worker.tests)
        self.used += test.used
        if self.cancelled:
            return True
        if outcome is None and (solution.over or solution.reason):
            while not solution.over:
                yield
            _raise_if_lost(solution)
            return False
        if outcome is None:
            _raise_if_lost(test)
            verdict, cause, text = ending(test)
            outcome = (verdict, f"test:{cause}", text)
        self.timeouts += outcome[0] == "timeout"
        report(("cell", self.number, self.at, *outcome, solution.cpu() - before))
        self.at += 1
        if (outcome[0] != "passed" and not self.all_tests) or self.timeouts >= MAX_TIMEOUTS:
            self.cancelled = True  # nothing more is to be learnt
        return True


def _converse(worker: Worker, solution: Session, test: Session) -> Generator[None, None, Outcome | None]:
    """Hand calls and answers on until the test reports; None when a process ended or had to be ended
    first.
    """
    asked = 0
    while True:
        while not (test.frames or test.over or solution.frames or solution.over or solution.reason):
            yield
        if solution.frames:
            kind, number, body = solution.frames.popleft()
            if kind not in _ANSWERS or not asked or number != asked:
                worker.solutions.kill("violation")
                return None
            asked = 0
            test.mark_wall()
            test.send(wire.frame(kind, number, body))
            worker.tests.flow_control()
        elif solution.over or solution.reason:
            return None
        elif test.frames:
            kind, number, body = test.frames.popleft()
            if kind in (wire.CALL, wire.NAMED):
                if asked:
                    return ("violation", "test:protocol", "")
                asked = number
                solution.send(wire.frame(kind, number, body))
                worker.solutions.flow_control()
            else:
                return _test_outcome(kind, body)
        else:
            return None


def _test_outcome(kind: int, body: bytes) -> Outcome:
    if kind == wire.PASSED:
        return ("passed", "", "")
    cause, _, text = body.decode("utf-8", "replace").partition("\0")
    if kind == wire.WRONG:
        return ("wrong_answer", "", text)
    if kind == wire.ERROR:
        return ("memory_limit" if cause == "MemoryError" else "runtime_error", cause, text)
    return ("violation", "test:protocol", "")


def _raise_if_lost(found: Session) -> None:
    from .worker import Lost

    if found.lost:
        raise Lost("a zygote ended while it ran a program")


def broken(body: bytes) -> Outcome:
    """Outcome of a program that did not load."""
    cause, _, text = body[1:].decode("utf-8", "replace").partition("\0")
    if body[:1] == b"s":
        return ("syntax_error", cause, text)
    return ("memory_limit" if cause == "MemoryError" else "runtime_error", cause, text)


def ending(found: Session) -> Outcome:
    """Outcome of a process that ended before it answered: from why it was killed, else from its wait
    status.
    """
    if found.reason in ("cpu", "wall"):
        return ("timeout", found.reason, "")
    if found.reason == "output":
        return ("output_limit", "output", "")
    if found.reason == "violation":
        return ("violation", "protocol", "")
    signal = found.status & 0x7F
    if signal == 0:
        code = found.status >> 8
        if code == zygote.NO_MEMORY:
            return ("memory_limit", "MemoryError", "")
        return ("runtime_error", f"exit {code}", f"the process ended with exit code {code}")
    if signal == 24:
        return ("timeout", "cpu", "")
    if signal == 31:
        return ("violation", "SIGSYS", "a system call by a foreign convention")
    name = _SIGNALS.get(signal, f"signal {signal}")
    if found.resident > 0.9 * found.memory:
        return ("memory_limit", name, "")
    return ("runtime_error", name, f"the process was ended by {name}")


class TimeJob:
    """Timing of several programs on the same calls, interleaved."""

    def __init__(
        self, number: int, sources: list[bytes], entry: str, calls: list[bytes], repeats: int, limits: Limits
    ) -> None:
        self.number = number
        self.sources = sources
        self.entry = entry
        self.calls = calls
        self.repeats = repeats
        self.limits = limits
        self.cancelled = False
        self.tries = 0
        self.best = [[math.nan] * len(calls) for _ in sources]
        self._open = [set(range(len(calls))) for _ in sources]
        self._timeouts = [0] * len(sources)

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Time every source in turn, as often as asked."""
        for _ in range(self.repeats):
            for index in range(len(self.sources)):
                start = 0
                while start < len(self.calls) and self._open[index] and not self.cancelled:
                    start = yield from self._pass(worker, index, start)
        report(("times", self.number, self.best))

    def _pass(self, worker: Worker, index: int, start: int) -> Generator[None, None, int]:
        """Time calls from `start` on in one process; where the next process must go on."""
        solution = worker.load(self.sources[index], self.entry, self.limits, len(self.calls) - start)
        kind = yield from _next(solution)
        position = start
        if kind == wire.LOADED:
            while position < len(self.calls):
                if position in self._open[index]:
                    kind = yield from self._call(worker, solution, index, position)
                    if kind is None:
                        position += 1
                        break
                position += 1
        else:
            self._open[index].clear()
            position = len(self.calls)
        worker.solutions.kill("done")
        yield from worker.close(worker.solutions)
        return position

    def _call(
        self, worker: Worker, solution: Session, index: int, position: int
    ) -> Generator[None, None, int | None]:
        solution.mark()
        solution.send(wire.frame(wire.ARGUMENTS, position, self.calls[position]))
        worker.solutions.flow_control()
        kind = yield from _next(solution)
        seconds = math.nan
        if kind == wire.READY:
            before = solution.mark()
            solution.send(wire.frame(wire.GO, position))
            kind = yield from _next(solution)
            seconds = solution.cpu() - before
        if kind == wire.DONE:
            best = self.best[index][position]
            self.best[index][position] = seconds if math.isnan(best) else min(best, seconds)
            return kind
        self._open[index].discard(position)
        self.best[index][position] = math.nan
        if kind is None:
            while not solution.over:
                yield
            _raise_if_lost(solution)
            if ending(solution)[0] == "timeout":
                self.best[index][position] = math.inf
                self._timeouts[index] += 1
                if self._timeouts[index] >= MAX_TIMEOUTS:
                    self._open[index].clear()
        return kind


def _next(solution: Session) -> Generator[None, None, int | None]:
    """Kind of the next frame; None when the process ends instead."""
    while not solution.frames and not solution.over:
        yield
    if solution.frames:
        return solution.frames.popleft()[0]
    _raise_if_lost(solution)
    return None
