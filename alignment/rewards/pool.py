"""The sandbox behind rewards: opened at the first use, kept for all of training, made anew when it is gone.

An executor starts a new engine by itself when its own is killed, and runs again what was under way. What is
left is here: an executor that was closed, or that belongs to the process from which this one was forked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from codegen_eval.errors import CodealignError, unknown
from sandbox import InfraError, Limits, Program, Result, SandboxError, Timing, TimingJob
from sandbox.executors import Executor, Policy, ResultCache, make_executor
from sandbox.executors.orders import Order
from sandbox.executors.registry import names

_SEEN = 200  # programs over which the rate of failures is taken
_LEAST = 20
_TRIES = 3
_NOTHING = Order(Program("def f(): pass", "f", ()))


class Pool:
    """One executor for all rewards that share it; any thread and any event loop may use it.

    Args:
        executor: `local`, `ray`, `http`, or another distribution's.
        options: Of the executor, as `{"workers": 4}` or `{"urls": [...]}` (docs/executors.md).
        limits: Of a test whose problem has none of its own.
        max_infra_rate: More than this share of the last 200 programs (20 at least) that could not be run
            ends the training: without rewards it would learn nothing.
        cache: An SQLite file in which verdicts are kept by content; None for none.

    Raises:
        CodealignError: For an unknown executor or a rate that is no share.
    """

    def __init__(
        self,
        executor: str = "local",
        options: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        max_infra_rate: float = 0.5,
        cache: str | None = None,
    ) -> None:
        if executor not in names():
            raise unknown("executor", executor, names())
        if not 0 <= max_infra_rate <= 1:
            raise CodealignError(f"max_infra_rate is {max_infra_rate}: give a share from 0 to 1")
        self.limits = limits or Limits()
        self.restarts = 0
        self._kind = executor
        self._options = dict(options or {})
        self._rate = max_infra_rate
        self._cache = cache
        self._lock = threading.Lock()
        self._executor: Executor | None = None
        self._owner = 0
        self._failed: deque[bool] = deque(maxlen=_SEEN)

    def executor(self) -> Executor:
        """The executor, opened if need be.

        Raises:
            CodealignError: If the options do not fit it.
            SandboxError: If it does not start.
        """
        with self._lock:
            if self._executor is None or self._owner != os.getpid():
                self._executor, self._owner = self._open(), os.getpid()
            return self._executor

    def _open(self) -> Executor:
        policy = Policy(max_infra_rate=1.0, cache=ResultCache(self._cache) if self._cache else None)
        try:
            return make_executor(self._kind, policy=policy, **self._options)
        except (TypeError, ValueError) as error:
            raise CodealignError(f"executor_options do not fit the executor {self._kind}: {error}") from None

    async def _do(self, order: Order) -> Any:
        """The answer to an order; asked for again, of a new executor, where the old one went away with it.

        Raises:
            SandboxError: There is none.
        """
        for _ in range(_TRIES):
            executor = await asyncio.to_thread(self.executor)
            try:
                future = executor.submit_order(order)
            except SandboxError:
                self._drop(executor)
                continue
            try:
                answer = await asyncio.wrap_future(future)
            except SandboxError as error:
                answer = InfraError("", str(error), 1)
            if not isinstance(answer, InfraError) or self._takes_work(executor):
                break
        else:
            raise SandboxError(f"no executor {self._kind} stays open")
        if isinstance(answer, InfraError):
            raise SandboxError(answer.message)
        return answer

    def _takes_work(self, executor: Executor) -> bool:
        """Whether an executor is still open; one that is not is forgotten."""
        try:
            executor.submit_order(_NOTHING)
        except SandboxError:
            self._drop(executor)
            return False
        return True

    def _drop(self, broken: Executor) -> None:
        with self._lock:
            if self._executor is broken:
                self._executor = None
                self.restarts += 1

    async def run(self, program: Program, *, all_tests: bool) -> Result | None:
        """What became of a program; None where it could not be run.

        Raises:
            SandboxError: If that is the rule rather than the exception.
        """
        message = ""
        try:
            found = await self._do(Order(program, all_tests))
        except SandboxError as error:
            found, message = None, str(error)
        self._failed.append(found is None)
        failed = sum(self._failed)
        if len(self._failed) >= _LEAST and failed > self._rate * len(self._failed):
            raise SandboxError(
                f"{failed} of the last {len(self._failed)} programs could not be run, more than "
                f"max_infra_rate={self._rate:g} allows; the last one that could not: {message or 'earlier'}"
            )
        return found  # type: ignore[no-any-return]

    async def time(self, job: TimingJob) -> Timing | None:
        """Times of calls; None where they could not be taken."""
        try:
            return await self._do(Order(job))  # type: ignore[no-any-return]
        except SandboxError:
            return None

    def close(self) -> None:
        """End the workers."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None and self._owner == os.getpid():
            executor.close()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a process: TRL's asynchronous GRPO sends rewards to another one."""
        return {**self.__dict__, "_executor": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())
