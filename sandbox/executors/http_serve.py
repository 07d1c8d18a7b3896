"""The service under uvicorn: sockets, signals, time limits for clients that do not send what they began."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .base import Executor
from .http_server import Bounds, Service

MIN_TOKEN = 16
_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
    b'connection: close\r\ncontent-length: 44\r\n\r\n{"error":"the request did not come in time"}'
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and how.

    Attributes:
        host: Name or address of an interface.
        port: 0 takes a free one.
        header_seconds: Time for a request's head.
        connections: The most of them; one more is answered 503.
        drain_seconds: After SIGTERM, the time to finish what was accepted.
        certificate: File of a TLS certificate chain, with `key` the file of its key; empty for plain HTTP.
        key: See `certificate`.
    """

    host: str = "127.0.0.1"
    port: int = 8091
    header_seconds: float = 15.0
    connections: int = 1000
    drain_seconds: int = 60
    certificate: str = ""
    key: str = ""


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_token(host: str, token: str | None) -> None:
    """Refuse to be open to the network.

    Raises:
        ValueError: No token where one is needed, or one that is easily guessed.
    """
    if token is None and not is_loopback(host):
        raise ValueError(
            f"host {host!r} can be reached from other machines, so a token is needed: --token-file FILE "
            "(for instance: openssl rand -hex 32 > FILE)"
        )
    if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
        raise ValueError(f"the token must be one line of at least {MIN_TOKEN} printable ASCII characters")


def serve(executor: Executor, address: Address, bounds: Bounds, token: str | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what was accepted and return.

    Raises:
        ValueError: The address needs a token, or the token is too weak.
        OSError: The address cannot be had.
    """
    import uvicorn

    check_token(address.host, token)
    loopback = is_loopback(address.host) and token is None
    service = Service(executor, bounds, token=token, loopback=loopback)
    config = uvicorn.Config(
        service,
        http=_guarded(address.header_seconds),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=address.connections,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=address.drain_seconds,
        ssl_certfile=address.certificate or None,
        ssl_keyfile=address.key or None,
    )

    class Server(uvicorn.Server):  # type: ignore[misc]
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.draining = True
            super().handle_exit(sig, frame)

    listener = _listen(address)
    logging.getLogger("codealign.serve").info("listening on %s port %d", *listener.getsockname()[:2])
    Server(config).run(sockets=[listener])


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host.strip("[]"), address.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"{address.host} port {address.port}") from None
    return listener


def _guarded(header_seconds: float) -> type[asyncio.Protocol]:
    """Protocol of uvicorn with a time limit for a request's head, and for the rest of a refused body."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Guarded(H11Protocol):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._arm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._answering():
                self._disarm()
            elif self._timer is None:
                self._arm()

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _arm(self) -> None:
            self._timer = self.loop.call_later(header_seconds, self._slow)

        def _disarm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _slow(self) -> None:
            self._timer = None
            if self._answering() or self.transport.is_closing():
                return
            if self.cycle is None:
                self.transport.write(_SLOW)
            self.transport.close()

    return Guarded
