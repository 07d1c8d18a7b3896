"""The interface of all executors: one at a time, as a stream, and for coroutines.

A backend says how one order is begun (`_submit`); everything that its users see is made of that here.
"""

from __future__ import annotations

import asyncio
import collections
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..matrix import MatrixJob, PassMatrix
from ..program import Program
from ..timing import Timing, TimingJob
from ..verdict import InfraError, Isolation, Result, SandboxError
from .orders import Answer, Execution, Order, Script, Work
from .sharing import Desk, Stats

if TYPE_CHECKING:
    from .cache import ResultCache

Outcome = Result | InfraError
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
_Self = TypeVar("_Self", bound="Executor")

__all__ = ["Executor", "Outcome", "Policy", "Stats"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How an executor treats what it runs, whatever runs it.

    Attributes:
        retries: How often work is tried again after the engine failed on it (the engine itself tries three
            times before it says so).
        max_infra_rate: A stream ends with `SandboxError` when more than this share of its programs could
            not be run; 1 never ends it.
        infra_minimum: Programs that must have been seen before the rate is looked at.
        share_equal: Equal programs that are under way at the same time run once.
        cache: Results of earlier runs, looked up by content; None for none.
    """

    retries: int = 1
    max_infra_rate: float = 0.05
    infra_minimum: int = 20
    share_equal: bool = True
    cache: ResultCache | None = None

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}; give a number >= 0")
        if not 0 <= self.max_infra_rate <= 1:
            raise ValueError(f"max_infra_rate is {self.max_infra_rate}; give a share between 0 and 1")
        if self.infra_minimum < 1:
            raise ValueError(f"infra_minimum is {self.infra_minimum}; give a number >= 1")


class Guard:
    """Counts what could not be run, and ends a run in which that is the rule."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._seen = 0
        self._failed = 0

    def see(self, outcome: Outcome) -> Outcome:
        """Count one.

        Raises:
            SandboxError: Too many could not be run.
        """
        self._seen += 1
        if isinstance(outcome, InfraError):
            self._failed += 1
            rate = self._failed / self._seen
            if self._seen >= self._policy.infra_minimum and rate > self._policy.max_infra_rate:
                raise SandboxError(
                    f"{self._failed} of {self._seen} programs ({rate:.0%}) could not be run, more than "
                    f"max_infra_rate={self._policy.max_infra_rate:g} allows; the last one: {outcome.message}"
                )
        return outcome


class Executor(ABC):
    """Runs programs somewhere; a context manager. Thread-safe, and at home in any event loop.

    A program that could not be run comes back as `InfraError`: no verdict, and never a reward.

    Args:
        policy: Retries, sharing, cache, and when to give up.
    """

    name: str = ""
    # A backend finds these out when it starts.
    _isolation: Isolation
    _environment: str

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self._desk = Desk(self._submit, self.policy.retries, self.policy.share_equal, self.policy.cache)
        self._guard = Guard(self.policy)

    # What a backend gives.

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many programs run at a time, as far as known."""

    @property
    def isolation(self) -> Isolation:
        """What is in force where the programs run, as it was found when the executor started."""
        return self._isolation

    @property
    def environment(self) -> str:
        """Digest of all that decides a result beside the program itself: engine, level, limits, libraries."""
        return self._environment

    @abstractmethod
    def _submit(self, order: Order) -> Future[Answer]:
        """Begin; never blocks. A cancelled future means that nobody waits: the work is to end."""

    @abstractmethod
    def close(self) -> None:
        """End all workers and whatever they run; what is under way fails with `SandboxError`."""

    @property
    def window(self) -> int:
        """How many orders a stream keeps under way."""
        return 2 * self.workers + 2

    # What users see.

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stats(self) -> Stats:
        """What has been done so far."""
        return self._desk.stats()

    def submit(self, program: Program, *, all_tests: bool = False) -> Future[Outcome]:
        """Begin one program. Cancelling the future ends the work, unless somebody else waits for it too."""
        if not isinstance(program, Program):
            raise TypeError(f"a program is of type {type(program).__name__}; give a Program")
        return cast("Future[Outcome]", self._desk.submit(Order(program, all_tests), self.environment))

    def submit_order(self, order: Order) -> Future[Answer]:
        """Begin work of any kind; see `submit`."""
        return self._desk.submit(order, self.environment)

    def _begin(self, work: Work) -> Future[Any]:
        return cast("Future[Any]", self._desk.submit(Order(work), self.environment))

    def run(self, programs: Iterable[Program], *, all_tests: bool = False) -> Iterator[Outcome]:
        """Run programs and give their outcomes in order, as they come; the programs are read lazily.

        Args:
            programs: Any iterable; no more than `window` are read ahead.
            all_tests: Go on after a failing test.

        Raises:
            SandboxError: More programs could not be run than the policy allows.
        """
        guard = Guard(self.policy)
        for outcome in self._ordered(programs, lambda program: self.submit(program, all_tests=all_tests)):
            yield guard.see(outcome)

    def run_unordered(
        self, programs: Iterable[Program], *, all_tests: bool = False
    ) -> Iterator[tuple[int, Outcome]]:
        """As `run`, but as soon as each is there, with the program's place in the iterable."""
        guard = Guard(self.policy)
        source = enumerate(programs)
        running: dict[Future[Outcome], int] = {}
        exhausted = False
        try:
            while not exhausted or running:
                while not exhausted and len(running) < self.window:
                    try:
                        place, program = next(source)
                    except StopIteration:
                        exhausted = True
                    else:
                        running[self.submit(program, all_tests=all_tests)] = place
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), guard.see(_value(future))
        finally:
            for future in running:
                future.cancel()

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Fill matrices and give them in order, as they come; the jobs are read lazily.

        Raises:
            SandboxError: One could not be filled.
        """
        return self._ordered(jobs, self._begin)

    def time_many(self, jobs: Iterable[TimingJob]) -> Iterator[NDArray[np.float64]]:
        """CPU seconds of calls; see `Sandbox.time_calls`.

        Raises:
            SandboxError: A job could not be done.
        """
        return (timing.seconds for timing in self.measure(jobs))

    def measure(self, jobs: Iterable[TimingJob]) -> Iterator[Timing]:
        """As `time_many`, with how steady the measurements were.

        Raises:
            SandboxError: A job could not be done.
        """
        return self._ordered(jobs, self._begin)

    def execute(self, script: Script) -> Execution:
        """Run a whole program on its standard input and give back what it printed.

        Raises:
            SandboxError: It could not be run.
        """
        return cast("Execution", _value(self._begin(script)))

    async def aexecute(self, script: Script) -> Execution:
        """As `execute`, for coroutines."""
        return cast("Execution", await asyncio.wrap_future(self._begin(script)))

    async def arun(self, program: Program, *, all_tests: bool = False) -> Outcome:
        """Run one program; for reward functions, many at a time. Cancelling the coroutine ends the work.

        Raises:
            SandboxError: Of all programs run this way, more could not be run than the policy allows.
        """
        return self._guard.see(await asyncio.wrap_future(self.submit(program, all_tests=all_tests)))

    async def arun_many(
        self, programs: Iterable[Program], *, all_tests: bool = False
    ) -> AsyncIterator[Outcome]:
        """As `run`, for coroutines: in order, reading lazily."""
        guard = Guard(self.policy)
        source = iter(programs)
        waiting: collections.deque[asyncio.Future[Outcome]] = collections.deque()
        exhausted = False
        try:
            while not exhausted or waiting:
                while not exhausted and len(waiting) < self.window:
                    try:
                        program = next(source)
                    except StopIteration:
                        exhausted = True
                    else:
                        future = self.submit(program, all_tests=all_tests)
                        waiting.append(asyncio.wrap_future(future))
                if waiting:
                    outcome = await waiting[0]
                    waiting.popleft()
                    yield guard.see(outcome)
        finally:
            for left in waiting:
                left.cancel()

    def _ordered(
        self, items: Iterable[_Item], begin: Callable[[_Item], Future[_Found]]
    ) -> Generator[_Found, None, None]:
        source = iter(items)
        waiting: collections.deque[Future[_Found]] = collections.deque()
        exhausted = False
        try:
            while not exhausted or waiting:
                while not exhausted and len(waiting) < self.window:
                    try:
                        item = next(source)
                    except StopIteration:
                        exhausted = True
                    else:
                        waiting.append(begin(item))
                if waiting:
                    found = _value(waiting[0])
                    waiting.popleft()
                    yield found
        finally:
            for future in waiting:
                future.cancel()


def _value(future: Future[_Found]) -> _Found:
    try:
        return future.result()
    except CancelledError:
        raise SandboxError("the executor was closed while it ran this") from None
