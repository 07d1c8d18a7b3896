"""The desk of an executor: equal orders share one run, earlier results are looked up, failures are tried
again, and everything is counted.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..program import Program
from ..verdict import InfraError, Result, SandboxError
from .keys import content_key
from .orders import Answer, Order, Refused

if TYPE_CHECKING:
    from .cache import ResultCache

Begin = Callable[[Order], "Future[Answer]"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the executor was made.

    Attributes:
        submitted: Orders taken.
        done: Orders answered, infrastructure errors included.
        verdicts: Programs by verdict.
        infra_errors: Orders that could not be done.
        retried: Tries beyond the first.
        shared: Orders answered by the run of an equal one.
        cached: Orders answered by an earlier run.
        cancelled: Orders that nobody waited for any more.
    """

    submitted: int = 0
    done: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    infra_errors: int = 0
    retried: int = 0
    shared: int = 0
    cached: int = 0
    cancelled: int = 0

    @property
    def waiting(self) -> int:
        """Orders that are under way."""
        return self.submitted - self.done - self.cancelled


@dataclass(eq=False, slots=True)
class _Run:
    """One run in the backend, and all who wait for it."""

    order: Order
    key: str | None
    waiters: dict[Future[Answer], str]
    tries: int = 0
    inner: Future[Answer] | None = None


class Desk:
    """Between an executor's users and its backend. Thread-safe.

    Args:
        begin: The backend's way to begin an order.
        retries: Tries beyond the first after an infrastructure error.
        share: Equal orders under way at the same time run once.
        cache: Results of earlier runs.
    """

    def __init__(self, begin: Begin, retries: int, share: bool, cache: ResultCache | None) -> None:
        self._begin = begin
        self._retries = retries
        self._share = share
        self._cache = cache
        self._lock = threading.RLock()
        self._runs: dict[str, _Run] = {}
        self._counts: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()

    def stats(self) -> Stats:
        """A snapshot of the counts."""
        with self._lock:
            return Stats(verdicts=MappingProxyType(dict(self._verdicts)), **self._counts)

    def submit(self, order: Order, environment: str) -> Future[Answer]:
        """Take an order.

        Args:
            order: What to run.
            environment: All that decides a result beside the order itself.

        Raises:
            SandboxError: The backend takes no orders.
        """
        waiter: Future[Answer] = Future()
        key = self._key(order, environment)
        with self._lock:
            run = self._runs.get(key) if key is not None and self._share else None
            if run is not None:
                self._counts["shared"] += 1
                self._counts["submitted"] += 1
                run.waiters[waiter] = order.id
        if run is None:
            known = self._cache.get(key) if key is not None and self._cache is not None else None
            run = _Run(order, key, {waiter: order.id})
            if known is not None:
                with self._lock:
                    self._counts["cached"] += 1
                    self._counts["submitted"] += 1
                self._answer(run, known)
                return waiter
            run.tries = 1
            run.inner = self._begin(order)
            with self._lock:
                self._counts["submitted"] += 1
                if key is not None and self._share:
                    self._runs.setdefault(key, run)
            run.inner.add_done_callback(lambda inner, run=run: self._ended(run, inner))  # type: ignore[misc]
        waiter.add_done_callback(lambda gone, run=run: self._left(run, gone))  # type: ignore[misc]
        return waiter

    def _key(self, order: Order, environment: str) -> str | None:
        if not isinstance(order.work, Program) or not (self._share or self._cache is not None):
            return None
        return content_key(order.work, order.all_tests, environment)

    def _again(self, run: _Run) -> None:
        with self._lock:
            self._counts["retried"] += 1
        run.tries += 1
        try:
            run.inner = self._begin(run.order)
        except SandboxError as error:
            self._answer(run, error)
        else:
            run.inner.add_done_callback(lambda inner: self._ended(run, inner))

    def _left(self, run: _Run, waiter: Future[Answer]) -> None:
        """Somebody waits no more; when it was the last one, the work ends."""
        if not waiter.cancelled():
            return
        with self._lock:
            if run.waiters.pop(waiter, None) is None:
                return
            self._counts["cancelled"] += 1
            waiter.set_running_or_notify_cancel()  # so that `concurrent.futures.wait` hears of it
            if run.waiters:
                return
            self._forget(run)
        if run.inner is not None:
            run.inner.cancel()

    def _forget(self, run: _Run) -> None:
        if run.key is not None and self._runs.get(run.key) is run:
            del self._runs[run.key]

    def _ended(self, run: _Run, inner: Future[Answer]) -> None:
        if inner.cancelled():
            for waiter in list(run.waiters):
                waiter.cancel()
            return
        error = inner.exception()
        answer: Answer | BaseException = inner.result() if error is None else error
        broken = isinstance(answer, InfraError | SandboxError) and not isinstance(answer, Refused)
        if broken and run.tries <= self._retries and run.waiters:
            self._again(run)
            return
        if self._cache is not None and run.key is not None and isinstance(answer, Result):
            self._cache.put(run.key, answer)
        self._answer(run, answer)

    def _answer(self, run: _Run, answer: Answer | BaseException) -> None:
        with self._lock:
            self._forget(run)
            waiters, run.waiters = run.waiters, {}
        for waiter, name in waiters.items():
            if not waiter.set_running_or_notify_cancel():
                with self._lock:
                    self._counts["cancelled"] += 1
                continue
            self._count(answer)
            if isinstance(answer, Result):
                waiter.set_result(replace(answer, id=name))
            elif isinstance(answer, InfraError):
                waiter.set_result(replace(answer, id=name, tries=max(answer.tries, run.tries)))
            elif isinstance(answer, SandboxError) and isinstance(run.order.work, Program):
                waiter.set_result(InfraError(name, str(answer), run.tries))
            elif isinstance(answer, BaseException):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)

    def _count(self, answer: Answer | BaseException) -> None:
        with self._lock:
            self._counts["done"] += 1
            if isinstance(answer, InfraError | BaseException):
                self._counts["infra_errors"] += 1
            elif isinstance(answer, Result):
                self._verdicts[answer.verdict.value] += 1
