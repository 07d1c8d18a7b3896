"""The program's end of its pipe: blocking frames. Runs inside the box."""

from __future__ import annotations

from _socket import socket

from . import wire

_CHUNK = 65536
TEXT_BYTES = 2000


class Pipe:
    """Reads and writes frames on a blocking socket."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self._data = b""
        self._at = 0

    def read(self) -> tuple[int, int, bytes] | None:
        """Kind, number and body of the next frame; None at the end."""
        if not self._need(wire.HEAD_SIZE):
            return None
        size, kind, number = wire.HEAD.unpack_from(self._data, self._at)
        if not self._need(wire.HEAD_SIZE + size):
            return None
        begin = self._at + wire.HEAD_SIZE
        self._at = begin + size
        return kind, number, self._data[begin : begin + size]

    def _need(self, size: int) -> bool:
        have = len(self._data) - self._at
        if have >= size:
            return True
        pieces = [self._data[self._at :]]
        while have < size:
            piece = self._sock.recv(max(_CHUNK, min(size - have, 2**20)))
            if not piece:
                return False
            pieces.append(piece)
            have += len(piece)
        self._data = b"".join(pieces)
        self._at = 0
        return True

    def write(self, kind: int, number: int, body: bytes = b"") -> None:
        """Send one frame."""
        self._sock.sendall(wire.HEAD.pack(len(body), kind, number) + body)


def error_body(error: BaseException, prefix: str = "") -> bytes:
    """Cause and bounded text of an exception. Its text is made by the program's own code: whatever happens,
    go on.
    """
    try:
        cause = type.__getattribute__(type(error), "__name__")
        cause = cause if type(cause) is str else "Exception"
    except BaseException:
        cause = "Exception"
    try:
        text = str(error)
        text = text[:TEXT_BYTES] if type(text) is str else ""
    except BaseException:
        text = ""
    return f"{prefix}{cause[:100]}\0{text}".encode("utf-8", "backslashreplace")
