"""The sandbox as its users see it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import libraries as libraries_
from . import orders
from .answers import Answer, CallJob, Keeper
from .cells import Job, Judge
from .client import Client
from .filling import MatrixRun
from .isolation import levels
from .limits import Limits
from .matrix import MatrixJob, Mode, PassMatrix
from .program import Program, Test
from .timing import Timing, TimingJob, TimingRun
from .verdict import (
    CellResult,
    Isolation,
    IsolationUnavailable,
    Result,
    SandboxError,
    Verdict,
    clean_text,
)

_DEFAULT = Limits()
_NOT_MADE = CellResult(Verdict.timeout, "not made after other timeouts", 0.0)
_Request = TypeVar("_Request")
_State = TypeVar("_State")
_Answer = TypeVar("_Answer")


class Sandbox:
    """A pool of workers that run untrusted programs; a context manager.

    Programs run in boxes of their own (docs/sandbox.md); expected values of `CallTest`s never leave this
    process.

    Args:
        workers: How many programs run at a time; by default one a processor.
        limits: Limits of each test, where a program or job gives none.
        require: Level of isolation: `full` (namespaces, read-only root, system call filter), or by name one
            that holds less: `filter`, `seccomp`, `process`, `none` (docs/sandbox.md). Never a weaker one than
            asked for.
        libraries: Installed packages that programs and tests may import, such as `("numpy",)`; name those
            that these import as well. They are loaded once, before any program; all others are hidden.
        hard_limits: No program gets more than this, whatever it asks for, nor more than this process's own
            hard limits (`ulimit -H`) allow; a result says what was lowered.

    Raises:
        IsolationUnavailable: This machine does not give what is required; the text says what is missing.
        SandboxError: The engine could not be started.
        ValueError: `workers` or `require` is not one of the possible values.
    """

    _trial = False

    def __init__(
        self,
        workers: int | None = None,
        *,
        limits: Limits = _DEFAULT,
        require: str = "full",
        hard_limits: Limits | None = None,
        libraries: Sequence[str] = (),
    ) -> None:
        count = (os.cpu_count() or 1) if workers is None else workers
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"workers is {workers!r}; give a number >= 1, or None for one a processor")
        levels.check(require)
        self._workers = count
        self._hard = [hard for hard in (hard_limits, Limits.of_session()) if hard is not None]
        self._limits = limits
        self._level = require
        self._sets = 0
        self._libraries = libraries_.locate(libraries)
        try:
            self._open()
        except IsolationUnavailable as error:
            if self._trial:
                raise
            raise levels.refusal(require, str(error), _works) from None
        if not self._trial:
            levels.announce(self.isolation)

    def _open(self) -> None:
        self._client = Client({"level": self._level, "workers": self._workers, "libraries": self._libraries})
        try:
            self.isolation: Isolation = levels.describe(self._level, self._client.info["isolation"])
            self._self_check()
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """How many programs run at a time."""
        return self._workers

    def _lowered(self, limits: Limits) -> tuple[Limits, tuple[str, ...]]:
        notes: tuple[str, ...] = ()
        for hard in self._hard:
            limits, lowered = limits.within(hard)
            notes += lowered
        return limits, notes

    def close(self) -> None:
        """End all workers and whatever they run."""
        self._client.close()

    def _self_check(self) -> None:
        program = Program(
            levels.self_check(self._libraries["paths"]), "reach", levels.self_check_tests(self._level)
        )
        for result in self.run([program], all_tests=True):
            levels.judge_self_check(self._level, result)

    def run(self, programs: Iterable[Program], *, all_tests: bool = False) -> Iterator[Result]:
        """Run programs and give their results in order, as they come; the programs are read lazily.

        Args:
            programs: Any iterable; only a few more are read than results were taken.
            all_tests: Go on after a failing test. After a crash or timeout the next test starts a fresh
                process.

        Raises:
            SandboxError: The engine failed repeatedly on a program. No verdict is made of that.
        """
        return self._stream(
            programs,
            lambda program: self._start_program(program, all_tests),
            lambda _, job: job.decided,
            self._result,
        )

    def answers(self, jobs: Iterable[CallJob]) -> Iterator[tuple[Answer, ...]]:
        """What calls return, one `Answer` a call; in order, as they come, the jobs are read lazily.

        Unless the job says so, a call that fails does not stop the others; after a crash or timeout the next
        one is made in a fresh process. Values are data that a program made: right only if the program is.

        Raises:
            SandboxError: The engine failed repeatedly on a program.
        """

        def start(job: CallJob) -> tuple[Program, list[Keeper], _Running]:
            program, keepers = job.program(), [Keeper() for _ in job.calls]
            return program, keepers, self._start_program(program, not job.stop, list(keepers))

        return self._stream(
            jobs,
            lambda job: _Answers(*start(job)),
            lambda _, state: state.running.decided,
            lambda _, state: state.answers(self._result),
        )

    def pass_matrix(
        self,
        codes: Sequence[str],
        tests: Sequence[Test],
        entry_point: str,
        *,
        limits: Limits | None = None,
        mode: Mode = "checked",
    ) -> PassMatrix:
        """Run every code on every test; see `pass_matrices`."""
        return next(iter(self.pass_matrices([MatrixJob(codes, tests, entry_point, limits, mode=mode)])))

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Fill matrices and give them in order, as they come; the jobs are read lazily.

        Equal codes and equal tests run once. After a crash or timeout the next test starts a fresh process;
        after three timeouts a code's remaining tests are left unknown. `MatrixJob.mode` says how far a code's
        tests are kept apart.

        Raises:
            SandboxError: The engine failed repeatedly on a program.
        """
        return self._stream(
            jobs, self._start_matrix, lambda _, state: state.decided, lambda _, state: state.result()
        )

    def time_calls(
        self,
        sources: Sequence[str],
        entry_point: str,
        calls: Sequence[tuple[Any, ...]],
        *,
        repeats: int = 3,
        limits: Limits | None = None,
        expected: Sequence[Any] | None = None,
    ) -> NDArray[np.float64]:
        """CPU seconds of each call alone, the minimum over repeats.

        The clock of the solution's process is read from outside between messages, and what the arguments take
        to cross is taken off. All sources run in one worker, interleaved. Without `expected`, a value a call,
        a program that skips the work is taken for a fast one.

        Returns:
            float64 (sources, calls); NaN where the call failed or gave what was not expected, inf where it
            timed out.
        """
        job = TimingJob(sources, entry_point, calls, repeats, limits, expected=expected)
        return next(iter(self.time_many([job])))

    def time_many(self, jobs: Iterable[TimingJob]) -> Iterator[NDArray[np.float64]]:
        """As `time_calls`, for many jobs: arrays in order, as they come; the jobs are read lazily."""
        return (timing.seconds for timing in self.measure(jobs))

    def measure(self, jobs: Iterable[TimingJob]) -> Iterator[Timing]:
        """Time calls, and say how steady the measurements were; in order, as they come.

        Raises:
            SandboxError: The engine failed repeatedly.
        """
        return self._stream(
            jobs, self._start_timing, lambda _, state: state.decided, lambda _, state: state.timing()
        )

    def _stream(
        self,
        requests: Iterable[_Request],
        start: Callable[[_Request], _State],
        decided: Callable[[_Request, _State], bool],
        finish: Callable[[_Request, _State], _Answer],
    ) -> Generator[_Answer, None, None]:
        """Keep the workers busy and yield answers in order."""
        window = 2 * self._workers + 2
        source = iter(requests)
        waiting: deque[tuple[_Request, Any]] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and len(waiting) < window:
                    try:
                        request = next(source)
                    except StopIteration:
                        exhausted = True
                    else:
                        waiting.append((request, start(request)))
                if not waiting:
                    return
                while not decided(*waiting[0]):
                    self._client.pump(0.2)  # not for ever: another thread may have taken our messages
                request, state = waiting.popleft()
                state.release()
                yield finish(request, state)
        finally:
            for _, state in waiting:
                state.release()

    def _start_program(
        self, program: Program, all_tests: bool, judges: list[Judge] | None = None
    ) -> _Running:
        job = _Running(self._client, judges or orders.judges(program), not all_tests)
        limits, _ = self._lowered(program.limits or self._limits)
        if orders.whole(program.tests, program.language):
            orders.prepare(self._client, program, self._level)
            self._client.send(orders.command(program, job.number, limits, all_tests, self._level))
            return job
        tests = [test.wire() for test in program.tests]
        source = program.source.encode("utf-8", "surrogatepass")
        self._client.send(
            ("run", job.number, tests, source, program.entry_point, limits.wire(), all_tests, None, False)
        )
        return job

    def _result(self, program: Program, job: _Running) -> Result:
        job.check(program.id)
        cells = job.cells
        if job.load_failed is not None:
            rest = len(program.tests) - len(cells)
            cells = cells + [job.load_failed] * (rest if not job.stop else min(rest, 1))
        verdict, cause, text = job.failure or (Verdict.passed, "", "")
        limits, notes = self._lowered(program.limits or self._limits)
        return Result(
            program.id,
            verdict,
            clean_text(cause, 100),
            clean_text(text),
            tuple(cells),
            job.cpu_seconds or sum(cell.cpu_seconds for cell in cells),
            job.wall_seconds,
            self.isolation,
            limits,
            orders.trust(program),
            notes + orders.notes(program),
        )

    def _start_matrix(self, job: MatrixJob) -> MatrixRun:
        self._sets += 1
        return MatrixRun(self._client, self._sets, job, self._lowered(job.limits or self._limits)[0])

    def _start_timing(self, job: TimingJob) -> TimingRun:
        return TimingRun(self._client, job, self._lowered(job.limits or self._limits)[0])


class Trial(Sandbox):
    """Only to see whether a level works: proposes no other one, announces nothing."""

    _trial = True


def _works(level: str) -> bool:
    try:
        Trial(1, require=level).close()
    except SandboxError:
        return False
    return True


class _Running(Job):
    """A program in the engine."""

    def __init__(self, client: Client, judges: list[Judge], stop: bool) -> None:
        super().__init__(judges, stop)
        self.stop = stop
        self._client = client
        self.number = client.number(self)

    def __call__(self, message: tuple[Any, ...]) -> None:
        """Take one message of the engine; it cannot tell by itself that an output was wrong."""
        super().__call__(message)
        if message[0] == "output" and self.decided and not self.done:
            self._client.send(("cancel", self.number))

    def release(self) -> None:
        """Nothing more is wanted of the engine for this job."""
        self._client.forget(self.number)
        if not self.done and self._client.usable:
            self._client.send(("cancel", self.number))


class _Answers:
    """Calls in the engine, and their values."""

    def __init__(self, program: Program, keepers: list[Keeper], running: _Running) -> None:
        self._program = program
        self._keepers = keepers
        self.running = running

    def release(self) -> None:
        """Nothing more is wanted of the engine for this job."""
        self.running.release()

    def answers(self, finish: Callable[[Program, _Running], Result]) -> tuple[Answer, ...]:
        """One a call; those not made after three timeouts are timeouts, after a stop there are none."""
        cells = finish(self._program, self.running).cells
        if not self.running.stop:
            cells += (_NOT_MADE,) * (len(self._keepers) - len(cells))
        return tuple(
            Answer(cell.verdict, cell.cause, keeper.value, cell.cpu_seconds)
            for cell, keeper in zip(cells, self._keepers, strict=False)
        )
