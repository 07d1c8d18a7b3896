"""The HTTP service: a plain ASGI application over any executor.

    POST /v1/run      one program or many        POST /v1/time     a timing job
    POST /v1/matrix   a matrix job               POST /v1/execute  a whole script on stdin
    POST /run_code    as SandboxFusion (fusion.py)
    GET  /health  /ready  /metrics  /v1/info

What is accepted is answered, or its client is gone. What does not fit into the bounded queue is refused at
once with 429 and a time to wait (503 while shutting down), before anything of it is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, cast

from ..matrix import MatrixJob
from ..program import Program
from ..timing import TimingJob
from ..verdict import InfraError, SandboxError
from . import fusion, wire
from .base import Executor
from .http_metrics import Metrics
from .orders import Answer, Order, Script, Work

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
LOOPBACK_HOSTS = frozenset(("localhost", "127.0.0.1", "[::1]", "::1"))
_LARGE = 64 * 1024  # bodies from here on are read in a thread
_BROKEN = 5  # orders in a row that could not be run, before /ready looks closer
_BUDGET = 8  # bodies of full size that may be held at a time
_log = logging.getLogger("codealign.serve")


class HttpError(Exception):
    """A refusal: status, text, further headers."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the service takes.

    Attributes:
        queue: Programs that may be accepted and unfinished at a time.
        max_body: Bytes of a request's body.
        body_seconds: Time to send it.
        retry_seconds: What a refused client is told to wait.
    """

    queue: int = 256
    max_body: int = 32 * 2**20
    body_seconds: float = 60.0
    retry_seconds: int = 1

    def __post_init__(self) -> None:
        for name in ("queue", "max_body", "body_seconds", "retry_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number > 0")


class Service:
    """The application.

    Args:
        executor: Runs the work.
        bounds: What is taken.
        token: Bearer token that everything but `/health` and `/ready` asks for; None for none.
        loopback: Only requests whose Host is this machine are answered, so that no web page of another site
            reaches the service through a browser.
    """

    def __init__(
        self,
        executor: Executor,
        bounds: Bounds | None = None,
        *,
        token: str | None = None,
        loopback: bool = False,
    ) -> None:
        self._executor = executor
        self._bounds = bounds or Bounds()
        self._token = token
        self._loopback = loopback
        self._queued = 0
        self._held = 0
        self._failures = 0  # in a row
        self._metrics = Metrics()
        self.draining = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        began = time.monotonic()
        try:
            status, kind, body, headers = await self._respond(scope, receive)
        except ClientGone:
            self._metrics.see(scope["path"], 499, time.monotonic() - began)
            return
        except HttpError as error:
            status, kind, headers = error.status, "application/json", error.headers
            body = wire.dumps({"error": error.text})
        except SandboxError as error:
            status, kind, headers = 500, "application/json", {}
            body = wire.dumps({"error": f"the sandbox failed: {error}"})
        except Exception:
            _log.exception("request to %s failed", scope["path"])
            status, kind, headers = 500, "application/json", {}
            body = wire.dumps({"error": "internal error; the server's log says more"})
        self._metrics.see(scope["path"], status, time.monotonic() - began)
        await asyncio.wait_for(_send(send, status, kind, body, headers), self._bounds.body_seconds)

    async def _respond(self, scope: Message, receive: Receive) -> tuple[int, str, bytes, dict[str, str]]:
        headers = {name.decode("latin-1").lower(): text.decode("latin-1") for name, text in scope["headers"]}
        path, method = scope["path"], scope["method"]
        wanted = _METHODS.get(path)
        if wanted is None:
            raise HttpError(404, f"there is no {path}; there are {', '.join(_METHODS)}")
        if method != wanted:
            raise HttpError(405, f"{path} takes {wanted}, not {method}", allow=wanted)
        self._check_host(headers)
        if path not in ("/health", "/ready"):
            self._check_token(headers)
        if path == "/ready":
            return await self._ready()
        if method == "GET":
            return self._get(path)
        if self.draining:
            raise self._busy(503, "the service is shutting down")
        self._check_type(headers)
        answer = await self._post(path, headers, receive)
        return 200, "application/json", wire.dumps(answer), {}

    def _check_host(self, headers: dict[str, str]) -> None:
        if not self._loopback:
            return
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() not in LOOPBACK_HOSTS:
            raise HttpError(
                421, f"host {host[:100]!r} is not this machine; the service listens on loopback only"
            )

    def _check_token(self, headers: dict[str, str]) -> None:
        if self._token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token.encode())
        if scheme.lower() != "bearer" or not same:
            raise HttpError(
                401, "a valid token is needed: Authorization: Bearer ...", www_authenticate="Bearer"
            )

    def _check_type(self, headers: dict[str, str]) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, f"content type {kind[:100]!r} is not taken; send application/json")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HttpError(415, "compressed bodies are not taken")

    def _busy(self, status: int, text: str) -> HttpError:
        return HttpError(status, text, retry_after=str(self._bounds.retry_seconds))

    def _get(self, path: str) -> tuple[int, str, bytes, dict[str, str]]:
        if path == "/metrics":
            text = self._metrics.render(self._executor, self._queued, self._bounds.queue)
            return 200, "text/plain; version=0.0.4; charset=utf-8", text.encode(), {}
        if path == "/v1/info":
            return 200, "application/json", wire.dumps(self._info()), {}
        return 200, "application/json", wire.dumps({"status": "ok"}), {}

    async def _ready(self) -> tuple[int, str, bytes, dict[str, str]]:
        """Whether work is welcome; where the last orders could not be run, a small one is tried."""
        reason = "shutting down" if self.draining else "queue full" if self._full(1) else ""
        if not reason and self._failures >= _BROKEN:
            try:
                await self._executor.aexecute(Script("pass"))
                self._failures = 0
            except SandboxError as error:
                reason = f"the sandbox fails: {error}"
        headers = {"retry-after": str(self._bounds.retry_seconds)} if reason else {}
        body = wire.dumps({"ready": not reason, "reason": reason})
        return 503 if reason else 200, "application/json", body, headers

    def _info(self) -> dict[str, Any]:
        return {
            "version": wire.VERSION,
            "isolation": wire.to_json(self._executor.isolation),
            "environment": self._executor.environment,
            "workers": self._executor.workers,
            "queue": self._bounds.queue,
            "max_body": self._bounds.max_body,
            "languages": list(fusion.language_names()),
            "tests": list(wire.kinds_of_test()),
        }

    def _full(self, more: int) -> bool:
        return self._queued + more > self._bounds.queue

    async def _post(self, path: str, headers: dict[str, str], receive: Receive) -> Any:
        """Read the body, take its work into the queue, wait for the answers."""
        held = 0
        try:
            taken = bytearray()
            async for piece in self._pieces(headers, receive):
                held += len(piece)
                self._held += len(piece)
                if self._held > _BUDGET * self._bounds.max_body:
                    raise self._busy(503, "too many large requests at the same time")
                taken += piece
            read, body = _READERS[path], bytes(taken)
            del taken
            try:
                request = await asyncio.to_thread(read, body) if len(body) > _LARGE else read(body)
            except wire.WireError as error:
                raise HttpError(400, str(error)) from None
            large = len(body) > _LARGE
            del body
            return await self._run(request, receive, large)
        finally:
            self._held -= held

    async def _pieces(self, headers: dict[str, str], receive: Receive) -> Any:
        most = self._bounds.max_body
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most:
            raise HttpError(413, f"the body has {declared} bytes; at most {most} are taken")
        end = time.monotonic() + self._bounds.body_seconds
        total = 0
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), max(0.0, end - time.monotonic()))
            except TimeoutError:
                text = f"the body did not come within {self._bounds.body_seconds:g} s"
                raise HttpError(408, text, connection="close") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            more = message.get("more_body", False)
            total += len(piece)
            if total > most:
                raise HttpError(413, f"the body has more than {most} bytes, which is the most that is taken")
            yield piece

    async def _run(self, request: Request, receive: Receive, large: bool) -> Any:
        count = len(request.orders)
        if count > self._bounds.queue:
            text = (
                f"{count} programs in one request; the queue holds {self._bounds.queue}: send fewer at a time"
            )
            raise HttpError(413, text)
        if self.draining:
            raise self._busy(503, "the service is shutting down")
        if self._full(count):
            raise self._busy(429, f"the queue is full ({self._queued} of {self._bounds.queue})")
        self._queued += count
        try:
            return request.reply(await self._answers(request.orders, receive, large))
        except SandboxError as error:
            self._failures += 1
            if request.failed is None:
                raise
            return request.failed(error)
        finally:
            self._queued -= count

    def _submit(self, orders: list[Order]) -> list[Future[Answer]]:
        futures: list[Future[Answer]] = []
        try:
            for order in orders:
                futures.append(self._executor.submit_order(order))
        except ValueError as error:
            for future in futures:
                future.cancel()
            raise HttpError(400, str(error)) from None
        return futures

    async def _answers(self, orders: list[Order], receive: Receive, large: bool) -> list[Answer]:
        futures = await asyncio.to_thread(self._submit, orders) if large else self._submit(orders)
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures))
        watch = asyncio.ensure_future(_disconnected(receive))
        both: set[asyncio.Future[Any]] = {waiting, watch}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise ClientGone
            answers = await waiting
            broken = sum(isinstance(answer, InfraError) for answer in answers)
            self._failures = self._failures + broken if broken == len(answers) else 0
            return answers
        except ValueError as error:
            raise HttpError(400, str(error)) from None
        finally:
            for task in both:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task


@dataclass(frozen=True, slots=True)
class Request:
    """What a request asks for, how the answers are sent, and a failure of the sandbox where it has a form."""

    orders: list[Order]
    reply: Callable[[list[Answer]], Any]
    failed: Callable[[SandboxError], Any] | None = None


def _one(answers: list[Answer]) -> Any:
    return {"version": wire.VERSION, "answer": wire.answer_to_json(answers[0])}


def _many(answers: list[Answer]) -> Any:
    return {"version": wire.VERSION, "answers": [wire.answer_to_json(answer) for answer in answers]}


def _envelope(body: bytes, names: Iterable[str], further: Iterable[str] = ()) -> dict[str, Any]:
    """The request as an object with one of the names in it.

    Raises:
        WireError: It is none.
    """
    data = wire.loads(body)
    names = tuple(names)
    if not isinstance(data, dict) or sum(name in data for name in names) != 1:
        raise wire.WireError(f"expected an object with {' or '.join(map(repr, names))}")
    wire.check_keys(data, ("version", *names, *further), "request")
    wire.check_version(data)
    return data


def _read_run(body: bytes) -> Request:
    data = _envelope(body, ("program", "programs"), ("all_tests",))
    all_tests = data.get("all_tests", False)
    if not isinstance(all_tests, bool):
        raise wire.WireError("request.all_tests: expected true or false")
    if "program" in data:
        return Request([Order(wire.from_json(Program, data["program"]), all_tests)], _one)
    if not isinstance(data["programs"], list) or not data["programs"]:
        raise wire.WireError("request.programs: expected a list with at least one program")
    orders = [
        Order(wire.from_json(Program, item, f"programs[{place}]"), all_tests)
        for place, item in enumerate(data["programs"])
    ]
    return Request(orders, _many)


def _reader(name: str, kind: type) -> Callable[[bytes], Request]:
    def read(body: bytes) -> Request:
        data = _envelope(body, (name,))
        return Request([Order(cast("Work", wire.from_json(kind, data[name], name)))], _one)

    return read


def _read_fusion(body: bytes) -> Request:
    script = fusion.script_of_request(wire.loads(body))
    return Request([Order(script)], lambda answers: fusion.response(answers[0]), fusion.failure)


_READERS: dict[str, Callable[[bytes], Request]] = {
    "/v1/run": _read_run,
    "/v1/matrix": _reader("job", MatrixJob),
    "/v1/time": _reader("job", TimingJob),
    "/v1/execute": _reader("script", Script),
    "/run_code": _read_fusion,
}
_METHODS = {
    **dict.fromkeys(_READERS, "POST"),
    **dict.fromkeys(("/health", "/ready", "/metrics", "/v1/info"), "GET"),
}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, status: int, kind: str, body: bytes, headers: dict[str, str]) -> None:
    head = {
        "content-type": kind,
        "content-length": str(len(body)),
        "x-content-type-options": "nosniff",
        **headers,
    }
    pairs = [(name.encode("latin-1"), text.encode("latin-1")) for name, text in head.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
