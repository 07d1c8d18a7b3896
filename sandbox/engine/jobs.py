"""What a worker does for one job, as generators that yield whenever they must wait for a process."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from . import linked, wire, zygote
from .endings import Outcome, broken, ending, raise_if_lost
from .session import Limits, Session
from .worker import Flow, Worker

MAX_TIMEOUTS = 3
_BRANCH_ENDS = 2.0  # seconds after its last answer
CALL_TEST, CODE_TEST, TRUSTED_TEST = 0, 1, 2
Report = Callable[[Any], None]


class TestSet:
    """Tests as the caller sent them, and the frames of the calls made once for all programs."""

    def __init__(self, tests: list[tuple[int, bytes]]) -> None:
        self.tests = tests
        self.frames = [
            wire.frame(wire.CALL, i, body) if kind == CALL_TEST else b""
            for i, (kind, body) in enumerate(tests)
        ]


class RunJob:
    """One program and its tests, in a given order."""

    def __init__(
        self,
        number: int,
        source: bytes,
        entry: str,
        tests: TestSet,
        order: Sequence[int] | None,
        limits: Limits,
        all_tests: bool,
        independent: bool,
    ) -> None:
        self.number = number
        self.source = source
        self.entry = entry
        self.tests = tests
        self.order = range(len(tests.tests)) if order is None else order
        self.limits = limits
        self.all_tests = all_tests
        self.independent = independent
        self._threads = b"thread" in source.lower() or b"concurrent" in source.lower()
        self.cancelled = False
        self.at = 0  # place in the order of the first test that has no outcome
        self.timeouts = 0
        self.used = 0.0
        self.tries = 0

    def flow(self, worker: Worker, report: Report) -> Flow:
        """Run it; every test's outcome is reported once."""
        begin = time.monotonic()
        more = True
        while more and not self.cancelled:
            more = yield from self._attempt(worker, report)
            more = more and self.at < len(self.order)
        report(("done", self.number, self.used, time.monotonic() - begin))

    def kind(self) -> int:
        """Kind of the test to be run next."""
        return self.tests.tests[self.order[self.at]][0]

    def _attempt(self, worker: Worker, report: Report) -> Generator[None, None, bool]:
        """Run tests in one process until it ends; whether the rest deserve another process."""
        end = len(self.order)
        if self.independent and worker.hub.branches and not self._threads:
            return (yield from self._branches(worker, report))
        if self.independent:
            end = min(self.at + 1, end)
        self._say_fresh(report)
        solution = worker.load(self.source, self.entry, self.limits, end - self.at, quiet=True)
        calls = self._send_calls(worker, solution, end)
        if calls == end:
            solution.finish()
            worker.solutions.flow_control()
        alive = yield from self._loading(solution, report)
        if alive:
            alive = yield from self._tests(worker, solution, report, calls, end)
        yield from worker.close(worker.solutions)
        self.used += solution.used
        if alive is None or self.cancelled:
            return False
        if not alive:
            raise_if_lost(solution, self.tries)
            self._ended(solution, report)
        return self._go_on()

    def _say_fresh(self, report: Report) -> None:
        if self.at and self.all_tests:
            report(("process", self.number, self.at))

    def _ended(self, solution: Session, report: Report) -> None:
        """The outcome of the test in which the process ended."""
        verdict, cause, text = ending(solution)
        self._cell(report, (verdict, cause, text), solution.used)

    def _cell(self, report: Report, outcome: Outcome, seconds: float) -> None:
        self.timeouts += outcome[0] == "timeout"
        report(("cell", self.number, self.at, *outcome, seconds))
        self.at += 1
        if outcome[0] != "passed" and not self.all_tests:
            self.cancelled = True  # nothing more is to be learnt

    def _go_on(self) -> bool:
        return self.at < len(self.order) and not self.cancelled and self.timeouts < MAX_TIMEOUTS

    def _send_calls(self, worker: Worker, solution: Session, end: int) -> int:
        """Send the calls that come next, all at once; where they end."""
        at = self.at
        while at < end and self.tests.tests[self.order[at]][0] == CALL_TEST:
            at += 1
        if at > self.at:
            solution.send(b"".join([self.tests.frames[i] for i in self.order[self.at : at]]))
            worker.solutions.flow_control()
        return at

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
            raise_if_lost(solution, self.tries)
            verdict, cause, text = ending(solution)
        report(("load", self.number, verdict, cause, text))
        return None

    def _tests(
        self, worker: Worker, solution: Session, report: Report, calls: int, end: int
    ) -> Generator[None, None, bool]:
        """Run the tests up to `end`, of which the calls up to `calls` are under way; False when the process
        ended before all outcomes were known.
        """
        while self.at < end:
            if self.kind() == CALL_TEST:
                if self.at >= calls:
                    calls = self._send_calls(worker, solution, end)
                alive = yield from self._calls(worker, solution, report, calls)
            else:
                outcome = yield from linked.run(self, worker, solution)
                alive = outcome is not None
                if outcome is not None:
                    self._cell(report, *outcome)
            if not alive:
                return False
            if self.cancelled or self.timeouts >= MAX_TIMEOUTS:
                return True
        return True

    def _calls(
        self, worker: Worker, solution: Session, report: Report, end: int
    ) -> Generator[None, None, bool]:
        """Collect answers to the calls that are under way."""
        before = solution.mark()
        while self.at < end:
            while (not solution.frames or solution.reason == "output") and not solution.over:
                yield
            if not solution.frames or solution.reason == "output":
                raise_if_lost(solution, self.tries)
                return False
            answers = []
            start = self.at
            worker.solutions.count_output()
            while solution.frames and self.at < end and solution.reason != "output":
                kind, number, body = solution.frames.popleft()
                if kind not in wire.ANSWERS or number != self.order[self.at]:
                    # What came with it does not count, and it counts even if the process has ended since.
                    solution.frames.clear()
                    solution.reason = solution.reason or "violation"
                    worker.solutions.kill("violation")
                    break
                answers.append((kind, body))
                self.at += 1
            now = solution.mark()
            if answers:
                report(("calls", self.number, start, answers, (now - before) / len(answers)))
            before = now
        return True

    def _branches(self, worker: Worker, report: Report) -> Generator[None, None, bool]:
        """Load once, then fork for every test, so that none sees what another left behind.

        Not for programs that make threads: where a program may fork, the kernel's limit on processes has to
        be low, and threads count.
        """
        solution = worker.load(self.source, self.entry, self.limits, 1, zygote.BRANCHING)
        alive: bool | None = yield from self._loading(solution, report)
        while alive and self._go_on():
            branch = worker.solutions.branch_off(self.limits, wire.MAX_BODY)
            alive = yield from self._branch(worker, solution, branch, report)
        worker.solutions.kill("done")
        yield from worker.close(worker.solutions)
        self.used += solution.used
        return alive is not None and self._go_on()

    def _branch(
        self, worker: Worker, solution: Session, branch: Session, report: Report
    ) -> Generator[None, None, bool]:
        """One test in a branch; whether the process can branch again."""
        end = self.at + 1
        calls = self._send_calls(worker, branch, end)
        alive = yield from self._tests(worker, branch, report, calls, end)
        branch.finish()
        branch.rest()
        solution.grace_until = solution.next_check = time.monotonic() + _BRANCH_ENDS
        while not solution.frames and not solution.over:
            yield
        if solution.frames:
            kind, _, body = solution.frames.popleft()
            if kind != wire.BRANCHED or len(body) != 4:
                worker.solutions.kill("violation")
            else:
                branch.status = struct.unpack("i", body)[0]
                solution.grace_until = 0.0
                solution.rest()
        branch.used = branch.cpu()
        self.used += branch.used
        worker.solutions.end_branch()
        if not alive:
            raise_if_lost(branch, self.tries)
            self._ended(branch, report)
        return not solution.over and not solution.reason


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
        kind = yield from _next(solution, self.tries)
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
        kind = yield from _next(solution, self.tries)
        seconds = math.nan
        if kind == wire.READY:
            before = solution.mark()
            solution.send(wire.frame(wire.GO, position))
            kind = yield from _next(solution, self.tries)
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
            raise_if_lost(solution, self.tries)
            if ending(solution)[0] == "timeout":
                self.best[index][position] = math.inf
                self._timeouts[index] += 1
                if self._timeouts[index] >= MAX_TIMEOUTS:
                    self._open[index].clear()
        return kind


def _next(solution: Session, tries: int) -> Generator[None, None, int | None]:
    """Kind of the next frame; None when the process ends instead."""
    while not solution.frames and not solution.over:
        yield
    if solution.frames:
        return solution.frames.popleft()[0]
    raise_if_lost(solution, tries)
    return None
