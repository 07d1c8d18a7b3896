"""Programs run by HTTP services: ours (http_server.py), or any that speaks SandboxFusion's `/run_code`.

A few threads carry the requests, each over a connection of its own that stays open. What has an answer is
never sent again; what has none (connection refused or broken, 429, 503) is sent again later, to another
service where there are several.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..verdict import SandboxError
from . import wire
from .base import Executor, Policy
from .http_dialects import DIALECTS, Call, Dialect
from .orders import Answer, Backlog, Entry, Order, Refused
from .registry import register

_AGAIN = frozenset((408, 425, 429, 502, 503, 504))
_OURS = frozenset((400, 422))  # what was asked for cannot be run
_SPLIT = frozenset((400, 413, 422))  # one program of a batch may be the reason
MAX_ANSWER = 128 * 2**20
_BACKOFF = (0.1, 5.0)  # seconds: first, most


@dataclass(eq=False)
class Service:
    """One service.

    Attributes:
        url: As given, without a path at its end.
        down_until: By the monotonic clock; it is asked for its health before it gets work again.
        failures: In a row.
    """

    url: str
    down_until: float = 0.0
    failures: int = 0
    parts: urllib.parse.SplitResult = field(init=False)

    def __post_init__(self) -> None:
        self.parts = urllib.parse.urlsplit(self.url.rstrip("/"))
        if self.parts.scheme not in ("http", "https") or not self.parts.hostname:
            raise ValueError(f"url is {self.url!r}; give one as http://host:port")

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        """A connection, not yet open."""
        host, port = self.parts.hostname or "", self.parts.port
        if self.parts.scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=timeout, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def failed(self, wait: float | None = None) -> None:
        """Leave it alone for a while: as long as it said, or longer each time."""
        self.failures += 1
        most = min(_BACKOFF[1], _BACKOFF[0] * 2 ** min(self.failures, 10))
        self.down_until = time.monotonic() + (wait if wait is not None else most) * random.uniform(0.5, 1.0)


@register("http")
class HttpExecutor(Executor):
    """Clients of one or more services.

    Args:
        urls: Of the services, as `http://host:port`; SandboxFusion's with or without `/run_code` at the end.
        token: Bearer token; or
        token_file: a file whose first line it is.
        connections: Requests under way at a time, over all services.
        batch: Most programs in a request.
        timeout: Seconds in which a request must be answered, queue included.
        patience: Seconds after which work that no service takes is given up as an infrastructure error.
        dialect: `codealign`, or `sandboxfusion`: one `/run_code` a test, its output compared here.
        policy: Retries, sharing, cache, and when to give up.

    Raises:
        SandboxError: No service answered within `patience`, or one refused us.
        ValueError: No such dialect, a malformed URL, or both ways to give a token.
    """

    name = "http"

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        connections: int = 16,
        batch: int = 16,
        timeout: float = 600.0,
        patience: float = 120.0,
        dialect: str = "codealign",
        policy: Policy | None = None,
    ) -> None:
        super().__init__(policy)
        for name, value in (("connections", connections), ("batch", batch)):
            if value < 1:
                raise ValueError(f"{name} is {value}; give a number >= 1")
        if token is not None and token_file is not None:
            raise ValueError("token and token_file are both given; give one of them")
        if token_file is not None:
            token = Path(token_file).read_text(encoding="utf-8").splitlines()[0].strip()
        if dialect not in DIALECTS:
            raise ValueError(f"dialect is {dialect!r}; choose from {', '.join(DIALECTS)}")
        given = [urls] if isinstance(urls, str) else list(urls)
        if not given:
            raise ValueError("urls is empty; give at least one")
        self._dialect: Dialect = DIALECTS[dialect]()
        self._carriers = _Carriers(
            [Service(self._dialect.base(url)) for url in given],
            self._dialect,
            {} if token is None else {"Authorization": f"Bearer {token}"},
            connections,
            batch,
            timeout,
            patience,
        )
        try:
            info = self._carriers.info()
            self._isolation, self._environment, self._workers = self._dialect.describe(info, connections)
        except BaseException:
            self._carriers.close()
            raise

    @property
    def workers(self) -> int:
        """Programs that run at a time: what the first service said, times the services."""
        return self._workers * len(self._carriers.services)

    @property
    def window(self) -> int:
        """Enough for a full batch in every connection."""
        return max(2 * self.workers + 2, self._carriers.capacity)

    def _submit(self, order: Order) -> Future[Answer]:
        return self._carriers.take(order)

    def close(self) -> None:
        """End all requests; what is under way fails, and its services stop running it."""
        self._carriers.close()


class _Carriers:
    """The threads that carry requests."""

    def __init__(
        self,
        services: list[Service],
        dialect: Dialect,
        headers: dict[str, str],
        connections: int,
        batch: int,
        timeout: float,
        patience: float,
    ) -> None:
        self.services = services
        self.capacity = connections * batch
        self._dialect = dialect
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        self._count = connections
        self._batch = batch
        self._timeout = timeout
        self._patience = patience
        self._backlog = Backlog()
        self._news = threading.Condition()
        self._idle = 0
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._carriers: list[_Carrier] = []

    def info(self) -> Any:
        """What the first service that is up says of itself.

        Raises:
            SandboxError: None is up, or it refused us.
        """
        carrier = _Carrier(self)
        try:
            return carrier.until_answered(self._dialect.info_call())
        finally:
            carrier.drop()

    def take(self, order: Order) -> Future[Answer]:
        """Queue an order.

        Raises:
            SandboxError: Closed.
            ValueError: Nothing that the dialect can say.
        """
        if self._closed.is_set():
            raise SandboxError("this executor is closed; make a new one")
        entry = Entry(order, packed=self._dialect.pack(order))
        self._backlog.add(entry)
        with self._news:
            self._news.notify()
            if self._backlog.fresh > self._idle and len(self._threads) < self._count:
                carrier = _Carrier(self)
                thread = threading.Thread(
                    target=self._carry, args=(carrier,), name="sandbox-http", daemon=True
                )
                self._carriers.append(carrier)
                self._threads.append(thread)
                thread.start()
        if self._closed.is_set():
            self._backlog.fail_all(_CLOSED)
        return entry.future

    def close(self) -> None:
        """End all threads."""
        self._closed.set()
        with self._news:
            self._news.notify_all()
        for carrier in self._carriers:
            carrier.interrupt()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._backlog.fail_all(_CLOSED)

    def _carry(self, carrier: _Carrier) -> None:
        while not self._closed.is_set():
            entries = self._backlog.take(self._share())
            if entries:
                carrier.deliver(entries)
                continue
            with self._news:
                self._idle += 1
                if not len(self._backlog) and not self._closed.is_set():
                    self._news.wait(30)
                self._idle -= 1
        carrier.drop()

    def _share(self) -> int:
        """Spread what waits over the connections before making full batches."""
        return max(1, min(self._batch, -(-self._backlog.fresh // self._count)))

    def pause(self, seconds: float) -> None:
        """Wait, unless all ends."""
        self._closed.wait(max(0.0, seconds))


_CLOSED = Refused("the executor was closed while it ran this")


class _Carrier:
    """One thread's requests, over a connection of its own."""

    def __init__(self, owner: _Carriers) -> None:
        self._owner = owner
        self._service: Service | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._entries: Sequence[Entry] = ()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Have work done; every entry is settled afterwards."""
        self._entries = entries
        for entry in entries:
            entry.future.add_done_callback(self._one_gone)
        try:
            self._deliver(entries)
        except Exception as error:
            known = isinstance(error, SandboxError | ValueError)
            if isinstance(error, _Turned) and error.status in _OURS:
                error = ValueError(str(error))
            for entry in entries:
                entry.fail(error if known else SandboxError(f"{type(error).__name__}: {error}"))
        finally:
            self._entries = ()

    def _deliver(self, entries: Sequence[Entry]) -> None:
        dialect = self._owner._dialect
        for group in dialect.groups(entries):
            conversation = dialect.converse(group)
            try:
                call = next(conversation)
                while True:
                    try:
                        call = conversation.send(self.until_answered(call, group))
                    except _Turned as turned:
                        if len(group) > 1 and turned.status in _SPLIT:
                            for entry in group:
                                self._deliver([entry])
                            break
                        raise
            except StopIteration:
                pass
            except Unwanted:
                self.drop()

    def until_answered(self, call: Call, entries: Sequence[Entry] = ()) -> Any:
        """Ask one service after the other until one gives an answer.

        Raises:
            SandboxError: None did within the patience, or the answer is a refusal.
            Unwanted: Nobody waits any more.
        """
        end = time.monotonic() + self._owner._patience
        for attempt in itertools.count():
            if entries and all(entry.future.done() for entry in entries):
                raise Unwanted
            if self._owner._closed.is_set():
                raise _CLOSED
            service = self._choose()
            used = self._connection is not None
            try:
                status, headers, body = self._ask(service, call)
            except (OSError, http.client.HTTPException) as error:
                self.drop()
                trouble = f"{service.url}: {type(error).__name__}: {error}"
                stale = used and isinstance(error, ConnectionError)  # closed while it was idle
                if not stale and not (entries and all(entry.future.done() for entry in entries)):
                    service.failed()
            else:
                if status == 200:
                    service.failures = 0
                    return wire.loads(body)
                trouble = f"{service.url} answered {status}: {_text(body)}"
                if status not in _AGAIN:
                    raise _Turned(status, trouble)
                wait = _seconds(headers.get("Retry-After"))
                if status == 429:  # up, but busy: others need not hear of it
                    self._busy(min(wait or _BACKOFF[1], _BACKOFF[0] * 2 ** min(attempt, 10)))
                else:
                    service.failed(wait)
            if time.monotonic() > end:
                raise SandboxError(f"no answer within patience={self._owner._patience:g} s; {trouble}")

    def _busy(self, wait: float) -> None:
        """Wait, then choose anew."""
        if len(self._owner.services) > 1:
            self.drop()
            self._service = None
        self._owner.pause(wait * random.uniform(0.5, 1.0))

    def _choose(self) -> Service:
        """The service in hand, or another one that is up; waits for the first one to be tried again."""
        now = time.monotonic()
        service = self._service
        if service is None or service.down_until > now:
            up = [found for found in self._owner.services if found.down_until <= now]
            service = random.choice(up) if up else min(self._owner.services, key=lambda s: s.down_until)
            if not up:
                self._owner.pause(service.down_until - now)
        if service is not self._service:
            self.drop()
            self._service = service
        return service

    def _ask(self, service: Service, call: Call) -> tuple[int, http.client.HTTPMessage, bytes]:
        if self._connection is None:
            self._connection = service.connect(min(10.0, self._owner._timeout))
            self._connection.connect()
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._connection.sock.settimeout(self._owner._timeout)
            if service.failures and call.method == "POST":
                self._check_health()
        connection = self._connection
        path = (service.parts.path or "") + call.path
        connection.request(call.method, path, body=call.body, headers=self._owner._headers)
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER + 1)
        if len(body) > MAX_ANSWER:
            raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER} bytes")
        if answer.will_close:
            self.drop()
        return answer.status, answer.headers, body

    def _check_health(self) -> None:
        path = self._owner._dialect.health
        if not path or self._connection is None:
            return
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        answer.read()
        if answer.status >= 500:
            raise OSError(f"its health check answered {answer.status}")

    def _one_gone(self, future: Future[Answer]) -> None:
        """When all that is asked for was cancelled, the request ends: the service sees it and stops."""
        if future.cancelled() and self._entries and all(entry.future.done() for entry in self._entries):
            self.interrupt()

    def interrupt(self) -> None:
        """Break the connection under a request; from any thread."""
        connection = self._connection
        found = None if connection is None else connection.sock
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


class Unwanted(Exception):
    """Nobody waits for the answer any more."""


class _Turned(Refused):
    """A service does not want this request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def _text(body: bytes) -> str:
    try:
        found = wire.loads(body)
        return str(found.get("error") or found.get("detail") or found)[:500]
    except (wire.WireError, AttributeError):
        return body[:200].decode("utf-8", "replace")


def _seconds(text: str | None) -> float | None:
    return min(60.0, float(text)) if text is not None and text.isdigit() else None
