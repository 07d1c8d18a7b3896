"""A server on 127.0.0.1 that speaks OpenAI's interface, and breaks it as a test says."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Gets the handler, the body and how many requests of this body came before; True if it has answered.
Misdeed = Callable[["Handler", dict[str, Any], int], bool]


class Server(ThreadingHTTPServer):
    """Counts what it is asked; `misdeed` may answer in its place."""

    daemon_threads = True
    misdeed: Misdeed | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answered = 0
        self.under_way = 0
        self.most_under_way = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            before = server.bodies.count(body)
            server.bodies.append(body)
            server.headers.append(dict(self.headers))
            server.paths.append(self.path)
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            done = server.misdeed is not None and server.misdeed(self, body, before)
        finally:
            # Counted first: a client may have the answer, and ask again, before this thread runs again.
            with server.lock:
                server.under_way -= 1
        if not done:
            with server.lock:
                server.answered += 1
            self.answer(200, completion(body))

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def text_of(body: dict[str, Any]) -> str:
    """What this model writes: a body that depends on the request alone, with something behind a stop text."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    return f"    return '{digest}'\n\n@decorated\ndef more(): pass\n"


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """An answer of the right form."""
    if "messages" in body:
        text = f"Sure!\n```python\ndef answer():\n{text_of(body)}```\n"
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    else:
        choice = {"index": 0, "text": text_of(body), "finish_reason": "stop"}
    return {"object": "completion", "choices": [choice]}


def hang_up(handler: Handler) -> bool:
    """Sends half of an answer and closes the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.close()
    return True


def trickle(handler: Handler) -> bool:
    """Sends an answer a byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)
    return True


@contextmanager
def serving(misdeed: Misdeed | None = None) -> Iterator[Server]:
    server = Server()
    server.misdeed = misdeed
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
