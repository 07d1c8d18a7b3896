"""What a worker does for one job, as generators that yield whenever they must wait for a process."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from . import linked, wire, zygote
from .endings import MAX_TIMEOUTS, Outcome, broken, ending, raise_if_lost
from .session import Limits, Session
from .worker import Flow, Worker

_BRANCH_ENDS = 2.0  # seconds after its last answer
CALL_TEST, CODE_TEST, TRUSTED_TEST, INSIDE_TEST = 0, 1, 2, 3
_LINKED = frozenset((CODE_TEST, TRUSTED_TEST))
_OUTCOMES = frozenset((wire.PASSED, wire.WRONG, wire.ERROR))
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
        end = self._shared(end)
        self._say_fresh(report)
        solution = worker.load(self.source, self.entry, self.limits, end - self.at, quiet=True)
        calls = self._send_calls(worker, solution, end)
        link = None
        if self.at < end and self.kind() in _LINKED:
            link = yield from linked.begin(self, worker, solution)
        if calls == end or (link is not None and self.at + 1 == end):
            solution.finish()
            worker.solutions.flow_control()
        alive = yield from self._loading(solution, report, link)
        if alive:
            alive = yield from self._tests(worker, solution, report, calls, end, link)
        yield from worker.close(worker.solutions)
        if link is not None and alive is None:  # the test finds the link closed
            yield from linked.end(self, worker, solution, link)
        self.used += solution.used
        if alive is None or self.cancelled:
            return False
        if not alive:
            raise_if_lost(solution, self.tries)
            self._ended(solution, report)
        return self._go_on()

    def _shared(self, end: int) -> int:
        """Where the tests end that may share a process: one that runs inside has a process for itself."""
        for at in range(self.at, end):
            if self.tests.tests[self.order[at]][0] == INSIDE_TEST:
                return max(at, self.at + 1)
        return end

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

    def _loading(
        self, solution: Session, report: Report, link: linked.Link | None = None
    ) -> Generator[None, None, bool | None]:
        """True when loaded; None when it did not load, which is the outcome of all remaining tests.

        With a test under way its first word wakes us, and the solution's has come before.
        """
        while not solution.frames and not solution.over:
            if link is not None and (link.test.frames or link.test.over):
                solution.receive()
                if solution.frames:
                    break
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
        self,
        worker: Worker,
        solution: Session,
        report: Report,
        calls: int,
        end: int,
        link: linked.Link | None = None,
    ) -> Generator[None, None, bool]:
        """Run the tests up to `end`, of which the calls up to `calls`, or the linked one, are under way.

        False when the process ended before all outcomes were known.
        """
        while self.at < end:
            if self.kind() == CALL_TEST:
                if self.at >= calls:
                    calls = self._send_calls(worker, solution, end)
                alive = yield from self._calls(worker, solution, report, calls)
            else:
                if link is not None:
                    outcome = yield from linked.end(self, worker, solution, link)
                    link = None
                else:
                    run = self._inside if self.kind() == INSIDE_TEST else linked.run
                    outcome = yield from run(self, worker, solution)
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
                    worker.solutions.condemn(solution)
                    break
                answers.append((kind, body))
                self.at += 1
            now = solution.mark()
            if answers:
                report(("calls", self.number, start, answers, (now - before) / len(answers)))
            before = now
        return True

    @staticmethod
    def _inside(
        job: RunJob, worker: Worker, solution: Session
    ) -> Generator[None, None, tuple[Outcome, float] | None]:
        """One test in the solution's own process, which reports the outcome itself; as `linked.run`."""
        index = job.order[job.at]
        before = solution.mark()
        solution.send(wire.frame(wire.INSIDE, index, job.tests.tests[index][1]))
        worker.solutions.flow_control()
        while not solution.frames and not solution.over:
            yield
        worker.solutions.count_output()
        if solution.frames and solution.reason != "output":
            kind, number, body = solution.frames.popleft()
            if kind in _OUTCOMES and number == index:
                return linked.reported(kind, body), solution.mark() - before
            worker.solutions.condemn(solution)
        while not solution.over:
            yield
        return None

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
                worker.solutions.condemn(solution)
            else:
                branch.status = struct.unpack("i", body)[0]
                solution.grace_until = 0.0
                solution.rest()
                worker.solutions.look_for_want_of_memory(branch)
        branch.used = branch.cpu()
        self.used += branch.used
        worker.solutions.end_branch()
        if not alive:
            raise_if_lost(branch, self.tries)
            self._ended(branch, report)
        return not solution.over and not solution.reason
