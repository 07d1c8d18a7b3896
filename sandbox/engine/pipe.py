"""The program's end of its pipe: blocking frames. Runs inside the box."""

from __future__ import annotations

import struct
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket

from . import wire

_CHUNK = 4096  # most programs' frames fit; a larger buffer would touch memory that a fork does not have yet
TEXT_BYTES = 2000


class Pipe:
    """Reads and writes frames on a blocking socket.

    Args:
        sock: The socket.
        max_body: Longest frame that is read.
        descriptors: Whether descriptors may come with frames. Of an untrusted sender none are taken: they
            would pile up in a process that serves many programs.
    """

    def __init__(self, sock: socket, max_body: int = 2**32, descriptors: bool = True) -> None:
        self._sock = sock
        self._max_body = max_body
        self._takes = descriptors
        self._data = b""
        self._at = 0
        self._descriptors: list[int] = []

    @property
    def sock(self) -> socket:
        """The socket itself."""
        return self._sock

    def read(self) -> tuple[int, int, bytes] | None:
        """Kind, number and body of the next frame; None at the end, and for a body beyond the bound."""
        if not self._need(wire.HEAD_SIZE):
            return None
        size, kind, number = wire.HEAD.unpack_from(self._data, self._at)
        if size > self._max_body or not self._need(wire.HEAD_SIZE + size):
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
            piece = self._receive(max(_CHUNK, min(size - have, 2**20)))
            if not piece:
                return False
            pieces.append(piece)
            have += len(piece)
        self._data = b"".join(pieces)
        self._at = 0
        return True

    def _receive(self, size: int) -> bytes:
        if not self._takes:
            return self._sock.recv(size)
        piece, ancillary, _, _ = self._sock.recvmsg(size, CMSG_SPACE(4))
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                self._descriptors.append(struct.unpack("i", data[:4])[0])
        return piece

    def take(self) -> socket:
        """The socket that came with the frame read last."""
        return socket(fileno=self._descriptors.pop(0))

    def write(self, kind: int, number: int, body: bytes = b"") -> None:
        """Send one frame."""
        self._sock.sendall(wire.HEAD.pack(len(body), kind, number) + body)

    def close(self) -> None:
        """Let the socket go."""
        self._sock.close()


_NAME = type.__dict__["__name__"].__get__  # the true one, whatever a class says of itself


def error_body(error: BaseException, prefix: str = "", cause: str = "") -> bytes:
    """Cause and bounded text of an exception. Its text is made by the program's own code: whatever happens,
    go on.
    """
    cause = cause or str(_NAME(type(error)))
    try:
        text = str(error)
        text = text[:TEXT_BYTES] if type(text) is str else ""
    except BaseException:
        text = ""
    return f"{prefix}{cause[:100]}\0{text}".encode("utf-8", "backslashreplace")
