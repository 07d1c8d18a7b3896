"""JSON over HTTP that survives a bad server: time limits, further attempts, no redirects, no leaked key."""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from codegen_eval.errors import CodealignError

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 2**20
MAX_WAIT = 600.0  # what a server may ask for by Retry-After
_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_BACKOFF = (1.0, 60.0)  # seconds: first, most


class Unusable(Exception):
    """An answer that is not what the protocol says; the next one may be."""


class _Passing(Exception):
    """What may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def checked_url(url: str, option: str) -> str:
    """The URL of a server without a slash at its end.

    Raises:
        CodealignError: For one that is malformed or holds a password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise CodealignError(f"{option} is {url!r}; give one as https://host:port/v1")
    if parts.username is not None or parts.password is not None:
        raise CodealignError(f"{option} holds a user name or password; give the key by --api-key-env NAME")
    return url.rstrip("/")


class Client:
    """Posts JSON to one URL.

    Args:
        url: Of the service.
        key: Bearer token.
        timeout: Seconds for one attempt.
        retries: Further attempts.
        first_wait: Seconds before the second attempt; doubled for each further one, up to a minute.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 600.0,
        retries: int = 8,
        first_wait: float = _BACKOFF[0],
    ) -> None:
        self.url = url
        self._key = key
        self._timeout = timeout
        self._retries = retries
        self._first_wait = first_wait
        self._opener = urllib.request.build_opener(_NoRedirect)

    def post(
        self, body: dict[str, Any] | None, read: Callable[[Any], T], *, where: str, stop: threading.Event
    ) -> T:
        """What `read` makes of the answer, which is asked for again while there is hope.

        Args:
            body: The request; None asks by GET.
            read: Takes the decoded answer; raises `Unusable` for one of the wrong form.
            where: What the request is for, in messages.
            stop: When set, no further attempt is made.

        Raises:
            CodealignError: If the server refuses, or no attempt brought an answer.
        """
        for attempt in range(self._retries + 1):
            try:
                return read(self._attempt(body, where))
            except (_Passing, Unusable) as error:
                said = f"its answer cannot be used: {error}" if isinstance(error, Unusable) else str(error)
                wait = error.wait if isinstance(error, _Passing) else None
            if attempt == self._retries or stop.wait(self._pause(attempt, wait)):
                break
        raise CodealignError(
            f"{self.url} did not answer for {where} in {attempt + 1} attempts; the last: {said}. "
            "What was drawn is kept: run the same command again to go on"
        )

    def _pause(self, attempt: int, wait: float | None) -> float:
        """Seconds before the next attempt: as long as the server said, or twice as long each time; with
        chance, so that many clients do not come back at once.
        """
        if wait is not None:
            return min(wait, MAX_WAIT) + random.uniform(0, self._first_wait)
        return min(_BACKOFF[1], self._first_wait * 2.0 ** min(attempt, 30)) * random.uniform(0.5, 1.0)

    def _attempt(self, body: dict[str, Any] | None, where: str) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url, data, headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                raw = self._read(response)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, where) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _Passing(f"{type(error).__name__}: {self._shown(str(reason))}") from None
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise Unusable(
                f"it is not JSON but {self._shown(raw[:200].decode('utf-8', 'replace'))!r}"
            ) from None

    def _read(self, response: Any) -> bytes:
        """The body, in bounds of time and size."""
        end = time.monotonic() + self._timeout
        parts, size = [], 0
        while part := response.read1(2**16):
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise Unusable(f"it is longer than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > end:
                raise _Passing(f"the answer took more than {self._timeout:g} s")
        expected = response.headers.get("Content-Length", "")
        if expected.isdecimal() and size < int(expected):
            raise _Passing(f"the connection ended after {size} of {expected} bytes")
        return b"".join(parts)

    def _refusal(self, error: urllib.error.HTTPError, where: str) -> Exception:
        """What a status says: that it may pass, or that it will not."""
        try:
            text = error.read(4096).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        said = f"HTTP {error.code} {self._shown(text) or error.reason}"
        if error.code in _AGAIN:
            return _Passing(said, _seconds(error.headers.get("Retry-After")))
        return CodealignError(f"{self.url} refuses {where}: {said}")

    def _shown(self, text: str) -> str:
        """A server's words in one short printable line, without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        line = " ".join(text.split())
        return "".join(c if c.isprintable() else "?" for c in line)[:300]


def _seconds(value: str | None) -> float | None:
    """Retry-After as seconds from now; None where there is none that can be read."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
