"""Programs run on the nodes of a Ray cluster: one actor a node, each with a `LocalExecutor` in it.

The actor is a large threaded process, so nothing is ever forked from it: its sandbox is started by exec. Work
goes out in batches of about half a second (docs/executors.md has the figures), and at most two of them are
under way in an actor, so that its workers never wait and little is lost with it. When an actor is lost, all
that was in it is done again elsewhere, each program alone: a program that ends its actor twice that way is a
`violation`.

Actors are not restarted by Ray but made anew here (`max_restarts=0`, `max_task_retries=0`): so no program is
run twice behind our back, and a loss is seen at once.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import os
import queue
import socket
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..matrix import MatrixJob, PassMatrix
from ..program import Program
from ..timing import Timing
from ..verdict import Isolation, SandboxError
from .base import Executor, Policy
from .keys import engine_version
from .orders import Answer, Backlog, Entry, Order, Refused
from .ray_node import Failure, NodeWorker
from .registry import register

MIN_BATCH, MAX_BATCH = 16, 64
IN_FLIGHT = 2  # batches an actor
BATCH_SECONDS = 0.5  # what a batch should take
START_SECONDS = 120.0
_KNOCK_SECONDS = 10.0
MAX_STARTS = 3  # of actors on a node that does not let them start
_NODES_SECONDS = 5.0  # how often joined nodes are looked for
_WAIT_SECONDS = 0.05


@cache
def _ray() -> Any:
    """Ray, imported when it is first needed."""
    import ray
    import ray.exceptions
    import ray.util.scheduling_strategies

    return ray


def _join(address: str) -> None:
    """Start or join the cluster at `address`; SandboxError where none answers."""
    try:
        if address not in ("local", "auto") and "://" not in address:
            _knock(address)  # Ray itself tries for minutes
        _ray().init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise SandboxError(
            f"no Ray cluster could be joined at {address!r}: {error}. Is one running there ('ray status')? "
            "One that asks for a token wants RAY_AUTH_MODE=token and its token in RAY_AUTH_TOKEN or in "
            "~/.ray/auth_token, on every host; without an address a cluster of this machine is started"
        ) from error


def _knock(address: str) -> None:
    """ConnectionError where nobody listens."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ConnectionError("an address is host:port, 'auto' or 'local'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_SECONDS).close()
    except OSError as error:  # no such host, no answer in time
        raise ConnectionError(str(error)) from None


def _may_leave(entry: Entry) -> bool:
    try:
        _ray().cloudpickle.dumps(entry.order)
    except Exception as error:
        kind = type(entry.order.work).__name__
        entry.fail(TypeError(f"this {kind} cannot go to another node: {type(error).__name__}: {error}"))
        return False
    return True


@register("ray")
class RayExecutor(Executor):
    """One pool a node of a Ray cluster.

    Inside a program that has called `ray.init`, that cluster is used; with `address`, or `RAY_ADDRESS` in the
    environment, the named one (`auto`: the one this machine belongs to); else a local one is started and
    ended with the executor.

    Args:
        address: Of the cluster.
        workers_per_node: Programs that run at a time on each node; by default one a processor of the node.
        policy: Retries, sharing, cache, and when to give up.
        **options: Passed on to `Sandbox` on every node: limits, require, hard_limits, ...

    Raises:
        SandboxError: No cluster at the address, or no node could start its pool; the text is that of the
            first one.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        workers_per_node: int | None = None,
        policy: Policy | None = None,
        **options: Any,
    ) -> None:
        super().__init__(policy)
        ray = _ray()
        self._ours = not ray.is_initialized()
        if self._ours:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            # Without an address Ray looks for any cluster that was ever started here, dead ones too.
            address = address or os.environ.get("RAY_ADDRESS") or "local"
            _join(address)
        settings = sorted((key, repr(value)) for key, value in options.items())
        self._environment = hashlib.sha256(f"{engine_version()} {settings}".encode()).hexdigest()[:16]
        self._fleet = _Fleet(workers_per_node, options)
        try:
            self._isolation = self._fleet.await_first()
        except BaseException:
            self.close()
            raise

    @property
    def workers(self) -> int:
        """Programs that run at a time, on all nodes that are up."""
        return self._fleet.workers

    @property
    def window(self) -> int:
        """Enough for full batches in all actors."""
        return max(2 * IN_FLIGHT * MIN_BATCH, self._fleet.actors * IN_FLIGHT * MAX_BATCH)

    def _submit(self, order: Order) -> Future[Answer]:
        return self._fleet.take(order)

    def close(self) -> None:
        """End all actors, and the cluster where it is ours."""
        self._fleet.close()
        if self._ours:
            _ray().shutdown()


@dataclass(frozen=True, slots=True)
class Batch:
    """What is under way in an actor.

    Attributes:
        number: Its name there.
        entries: The work.
        began: When it was sent, by the monotonic clock.
    """

    number: int
    entries: list[Entry]
    began: float


class _Actor:
    """An actor on a node, and what is under way in it."""

    def __init__(self, node: str, workers: int, options: dict[str, Any]) -> None:
        self.node = node
        self.workers = workers
        self.ready = False
        self.batches: dict[Any, Batch] = {}
        self._numbers = itertools.count()
        self.alone = False
        place = _ray().util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        remote = (
            _ray()
            .remote(NodeWorker)
            .options(
                num_cpus=workers,
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=IN_FLIGHT + 1,  # one more to cancel
                scheduling_strategy=place,
            )
        )
        self.handle = remote.remote(workers, options, engine_version(executors=True))
        self.info = self.handle.info.remote()

    def send(self, entries: list[Entry]) -> None:
        """Begin a batch; what cannot leave this process fails."""
        number = next(self._numbers)
        try:
            ref = self.handle.run.remote(number, [entry.order for entry in entries])
        except Exception as error:  # whatever a user's object raises that Ray wants to send
            fit = [entry for entry in entries if _may_leave(entry)]
            if len(fit) == len(entries):
                for entry in entries:
                    entry.fail(SandboxError(f"Ray took no work: {type(error).__name__}: {error}"))
            elif fit:
                self.send(fit)
            return
        self.batches[ref] = Batch(number, entries, time.monotonic())

    def cancel(self, entry: Entry) -> None:
        """Have the work ended, if it is here."""
        for batch in self.batches.values():
            if entry in batch.entries:
                self.handle.cancel.remote(batch.number, batch.entries.index(entry))

    def kill(self) -> None:
        """End it."""
        with contextlib.suppress(_ray().exceptions.RayError, ValueError):
            _ray().kill(self.handle)


class _Fleet:
    """The actors, and the thread that feeds them."""

    def __init__(self, workers_per_node: int | None, options: dict[str, Any]) -> None:
        self._per_node = workers_per_node
        self._options = options
        self._backlog = Backlog()
        self._news = threading.Condition()
        self._cancelled: queue.SimpleQueue[Entry] = queue.SimpleQueue()
        self._closing = False
        self._ended = False
        self._actors: dict[str, _Actor] = {}
        # What a piece of work takes, as seen from here.
        self._seconds: dict[type, float] = {Program: BATCH_SECONDS / MIN_BATCH, MatrixJob: BATCH_SECONDS}
        self._looked = -_NODES_SECONDS
        self._last_up = time.monotonic()
        self._failures: Counter[str] = Counter()
        self._trouble = ""
        self._isolation: Isolation | None = None
        self._thread = threading.Thread(target=self._loop, name="sandbox-ray", daemon=True)
        self._thread.start()

    @property
    def actors(self) -> int:
        """How many are up."""
        return max(1, sum(actor.ready for actor in list(self._actors.values())))

    @property
    def workers(self) -> int:
        """Programs at a time."""
        return max(1, sum(actor.workers for actor in list(self._actors.values()) if actor.ready))

    def await_first(self) -> Isolation:
        """Wait for the first actor.

        Raises:
            SandboxError: None came up.
        """
        with self._news:
            self._news.wait_for(lambda: self._isolation is not None or self._ended, START_SECONDS + 10)
        if self._isolation is None:
            raise SandboxError(
                f"no node of the Ray cluster could start its pool: {self._trouble or 'no answer'}"
            )
        return self._isolation

    def take(self, order: Order) -> Future[Answer]:
        """Queue an order.

        Raises:
            SandboxError: Closed.
        """
        if self._closing:
            raise SandboxError(
                f"this executor is closed{self._trouble and ': ' + self._trouble}; make a new one"
            )
        entry = Entry(order)
        entry.future.add_done_callback(lambda future: self._gone(entry, future))
        self._backlog.add(entry)
        if self._ended:
            self._backlog.fail_all(Refused("the executor was closed while it ran this"))
        with self._news:
            self._news.notify_all()
        return entry.future

    def _gone(self, entry: Entry, future: Future[Answer]) -> None:
        if future.cancelled():
            self._cancelled.put(entry)

    def close(self) -> None:
        """End all actors; what is under way fails."""
        self._closing = True
        with self._news:
            self._news.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _loop(self) -> None:
        try:
            while not self._closing:
                self._round()
        except Exception as error:
            self._trouble = f"{type(error).__name__}: {error}"
        finally:
            self._end()

    def _end(self) -> None:
        closed = Refused(f"the executor was closed while it ran this{self._trouble and ': ' + self._trouble}")
        for actor in self._actors.values():
            actor.kill()
            for batch in actor.batches.values():
                for entry in batch.entries:
                    entry.fail(closed)
        self._closing = self._ended = True
        self._backlog.fail_all(closed)
        with self._news:
            self._news.notify_all()

    def _round(self) -> None:
        self._look_for_nodes()
        self._see_who_is_up()
        self._drop_cancelled()
        for actor in list(self._actors.values()):
            self._feed(actor)
        refs = {ref: actor for actor in self._actors.values() for ref in actor.batches}
        starting = any(not actor.ready for actor in self._actors.values())
        if not refs:
            with self._news:
                if not len(self._backlog) or not any(actor.ready for actor in self._actors.values()):
                    self._news.wait(0.1 if starting or len(self._backlog) else _NODES_SECONDS)
            return
        done, _ = _ray().wait(list(refs), num_returns=1, timeout=_WAIT_SECONDS)
        for ref in done:
            if ref in refs[ref].batches:  # not lost with another batch of its actor just now
                self._collect(refs[ref], ref)

    def _look_for_nodes(self) -> None:
        """An actor for each node that is alive and has none."""
        now = time.monotonic()
        if now - self._looked < (_NODES_SECONDS if self._actors else 0.5):
            return
        self._looked = now
        alive = {n["NodeID"]: int(n["Resources"].get("CPU", 0)) for n in _ray().nodes() if n["Alive"]}
        for node, cpus in alive.items():
            workers = min(self._per_node or cpus, cpus)
            if workers >= 1 and node not in self._actors and self._failures[node] < MAX_STARTS:
                self._actors[node] = _Actor(node, workers, self._options)
        if any(actor.ready for actor in self._actors.values()):
            self._last_up = now
        elif now - self._last_up > START_SECONDS:
            raise SandboxError(
                f"no actor was up for {START_SECONDS:.0f} s; are the cluster's processors all taken? "
                f"{self._trouble}"
            )

    def _see_who_is_up(self) -> None:
        waiting = {actor.info: actor for actor in self._actors.values() if not actor.ready}
        if not waiting:
            return
        done, _ = _ray().wait(list(waiting), num_returns=len(waiting), timeout=0)
        for ref in done:
            actor = waiting[ref]
            try:
                isolation: Isolation = _ray().get(ref)
            except _ray().exceptions.RayError as error:
                self._trouble = str(error).strip().splitlines()[-1]
                self._failures[actor.node] += 1
                self._remove(actor)
                if not self._actors and self._isolation is None:
                    raise SandboxError(self._trouble) from None
            else:
                actor.ready = True
                with self._news:
                    self._isolation = self._isolation or isolation
                    self._news.notify_all()

    def _feed(self, actor: _Actor) -> None:
        """Give an actor work; work under suspicion gets an actor for itself."""
        if not actor.ready or actor.alone:
            return
        if self._backlog.suspects:  # let the actors run dry
            if not actor.batches and (suspect := self._backlog.take_suspect()):
                actor.send([suspect])
                actor.alone = bool(actor.batches)
            return
        while len(actor.batches) < IN_FLIGHT and (entries := self._take()):
            actor.send(entries)

    def _take(self) -> list[Entry]:
        share = -(-self._backlog.fresh // (self.actors * IN_FLIGHT))

        def size(kind: type, least: int) -> int:
            wanted = int(BATCH_SECONDS / max(self._seconds[kind], 1e-6))
            return max(1, min(max(least, min(MAX_BATCH, wanted)), share))

        return self._backlog.take(size(Program, MIN_BATCH), matrices=size(MatrixJob, 1))

    def _collect(self, actor: _Actor, ref: Any) -> None:
        try:
            answers = _ray().get(ref)
        except _ray().exceptions.RayError as error:
            self._lost(actor, error)
            return
        batch = actor.batches.pop(ref)
        actor.alone = False
        kinds = {type(entry.order.work) for entry in batch.entries}
        if len(kinds) == 1 and (kind := kinds.pop()) in self._seconds:
            mean = (time.monotonic() - batch.began) / len(batch.entries) / IN_FLIGHT
            self._seconds[kind] = 0.7 * self._seconds[kind] + 0.3 * mean
        for entry, answer in zip(batch.entries, answers, strict=True):
            _settle(entry, answer)

    def _lost(self, actor: _Actor, error: Exception) -> None:
        """An actor is gone: its work is to be done again, elsewhere or in its successor."""
        entries = [e for batch in actor.batches.values() for e in batch.entries if not e.future.done()]
        self._remove(actor)
        self._looked -= _NODES_SECONDS
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        alive = {node["NodeID"] for node in _ray().nodes() if node["Alive"]}
        blame = (
            actor.node in alive
            and "node has died" not in str(error)
            and not isinstance(error, _ray().exceptions.RayTaskError)
        )
        self._backlog.lost(entries, reason, blame=blame)

    def _remove(self, actor: _Actor) -> None:
        actor.kill()
        self._actors.pop(actor.node, None)

    def _drop_cancelled(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._cancelled.get_nowait()
                for actor in self._actors.values():
                    actor.cancel(entry)


def _settle(entry: Entry, answer: Answer | Failure) -> None:
    if isinstance(answer, PassMatrix | Timing):
        entry.answer(copy.deepcopy(answer))  # Ray's arrays are read-only and keep its memory
    elif not isinstance(answer, Failure):
        entry.answer(answer)
    elif answer.refused:
        entry.fail(ValueError(answer.text))
    else:
        entry.fail(SandboxError(answer.text))
