"""A test in a process of its own, linked to the solution's process.

The two talk over a socket pair of their own, so a call costs two messages and not four; the supervisor
watches their clocks. What the solution sends is read by the test's process alone, with the bounds of the
codec.
"""

from __future__ import annotations

import marshal
import time
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from . import wire
from .endings import Outcome, ending, raise_if_lost
from .session import GRACE, NEVER, Session
from .worker import Worker

if TYPE_CHECKING:
    from .jobs import RunJob

TRUSTED_TEST = 2


class Link(NamedTuple):
    """A test that is under way.

    Attributes:
        test: Its process.
        trusted: Whether the process serves further tests.
        before: CPU seconds of the solution's process before it.
        test_before: And of the test's.
    """

    test: Session
    trusted: bool
    before: float
    test_before: float


def begin(job: RunJob, worker: Worker, solution: Session) -> Generator[None, None, Link]:
    """Start the job's next test. The solution may still be loading: it serves the link when it has."""
    kind, source = job.tests.tests[job.order[job.at]]
    trusted = kind == TRUSTED_TEST
    test = yield from worker.process_for_test(job.limits, trusted)
    near, far = socketpair(AF_UNIX, SOCK_STREAM)
    body = marshal.dumps((source, job.entry))
    solution.send(wire.frame(wire.LINK, 0), descriptor=near.detach())
    test.send(wire.frame(wire.TEST, job.number & 0xFFFFFFFF, body), descriptor=far.detach())
    worker.tests.flow_control()
    worker.solutions.flow_control()
    started = Link(test, trusted, solution.mark(), test.mark())
    test.wall_limit = NEVER  # time that the two spend asleep is the solution's, see `_converse`
    return started


def end(
    job: RunJob, worker: Worker, solution: Session, link: Link
) -> Generator[None, None, tuple[Outcome, float] | None]:
    """Wait for a test's end; its outcome and the solution's CPU seconds (with those of loading, if it was
    started before), or None when the solution's process ended first.
    """
    test = link.test
    outcome = yield from _converse(job, worker, solution, test)
    if link.trusted and not test.over and not test.reason:
        job.used += test.cpu() - link.test_before
        test.rest()
    else:
        worker.tests.kill("done")
        yield from worker.close(worker.tests)
        job.used += test.used - link.test_before
    return None if outcome is None else (outcome, solution.cpu() - link.before)


def run(
    job: RunJob, worker: Worker, solution: Session
) -> Generator[None, None, tuple[Outcome, float] | None]:
    """Run the job's next test, with a solution that has loaded; as `end`."""
    link = yield from begin(job, worker, solution)
    return (yield from end(job, worker, solution, link))


def _converse(
    job: RunJob, worker: Worker, solution: Session, test: Session
) -> Generator[None, None, Outcome | None]:
    """Wait for the test's word; None when the solution's process ended and that decides."""
    seen_over = False
    while not test.frames and not test.over:
        if solution.frames:  # it has nothing to say here
            worker.solutions.condemn(solution)
        if solution.over and not seen_over:
            seen_over = True
            # The link is closed: a test that waits for an answer says so at once, and one that does not is
            # busy, or it is the sleeper.
            test.wall_limit = GRACE if solution.reason == "wall" else job.limits[1]
            test.mark_wall()
            test.next_check = time.monotonic()
        yield
    if test.frames:
        kind, number, body = test.frames.popleft()
        if number != job.number & 0xFFFFFFFF:
            return ("violation", "test:protocol", "")
        worker.solutions.count_output()
        if solution.reason == "output":
            pass
        elif solution.intruded():
            worker.solutions.condemn(solution)
        elif kind != wire.GONE:
            return reported(kind, body)
        yield from _await_end(worker, solution)
        return None
    raise_if_lost(test, job.tries)
    if job.cancelled:
        return None
    verdict, cause, text = ending(test)
    return (verdict, f"test:{cause}", text)


def _await_end(worker: Worker, solution: Session) -> Generator[None, None, None]:
    """The link is broken, so the solution's process has ended or has done something that it must not."""
    end = time.monotonic() + GRACE
    while not solution.over and not solution.closed:
        if time.monotonic() > end:
            worker.solutions.kill("violation")
            return
        solution.next_check = min(solution.next_check, end)
        yield


def reported(kind: int, body: bytes) -> Outcome:
    """Outcome of a test as the process says in which it ran."""
    if kind == wire.PASSED:
        return ("passed", "", "")
    cause, _, text = body.decode("utf-8", "replace").partition("\0")
    if kind == wire.WRONG:
        return ("wrong_answer", "", text)
    if kind == wire.ERROR:
        memory = cause.removeprefix("test:") == "MemoryError"
        return ("memory_limit" if memory else "runtime_error", cause, text)
    return ("violation", "test:protocol", "")
