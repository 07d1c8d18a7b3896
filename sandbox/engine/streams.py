"""Standard input, output and error text of a program on stdin/stdout, at the supervisor's end.

Input is a sealed file in memory: no feeding, no deadlock, and the program cannot change it. Output comes
over a pipe of its own and is bounded before it is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from _socket import SCM_RIGHTS, SOL_SOCKET, socket

_SEALS = 1 | 2 | 4 | 8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_ADD_SEALS = 1033
_SET_PIPE_SIZE = 1031
_PIPE_SIZE = 2**18
_CHUNK = 2**18
_ERROR_BYTES = 4000  # kept of each end of the error text


class Streams:
    """The streams of one process."""

    def __init__(self, stdin: bytes) -> None:
        self._far = [_sealed(stdin)]
        self.fd, far = os.pipe()
        self._far.append(far)
        with contextlib.suppress(
            OSError
        ):  # the user's share of pipe memory is used up: the usual size will do
            fcntl.fcntl(far, _SET_PIPE_SIZE, _PIPE_SIZE)
        os.set_blocking(self.fd, False)
        self.open = True
        self._pieces: list[bytes] = []
        self._head = b""
        self._tail = b""

    def hand_over(self, sock: socket) -> None:
        """Send the program's ends with one byte; they are closed here."""
        sock.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, struct.pack("2i", *self._far))])
        self._drop_far()

    def _drop_far(self) -> None:
        for fd in self._far:
            os.close(fd)
        self._far = []

    def read(self, room: int) -> int:
        """Read what was printed and keep at most `room` bytes of it; how many bytes came.

        `open` is False after the end.
        """
        taken = 0
        try:
            while taken <= room:
                data = os.read(self.fd, _CHUNK)
                if not data:
                    self.open = False
                    break
                self._pieces.append(data[: max(0, room - taken)])
                taken += len(data)
        except BlockingIOError:
            pass
        return taken

    def add_error(self, data: bytes) -> None:
        """Keep both ends of the error text."""
        room = _ERROR_BYTES - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[max(room, 0) :])[-_ERROR_BYTES:]

    @property
    def output(self) -> bytes:
        """What was printed to standard output."""
        return b"".join(self._pieces)

    @property
    def errors(self) -> str:
        """What was printed to standard error: its two ends when it is long."""
        gap = b"\n...\n" if len(self._tail) == _ERROR_BYTES else b""
        return (self._head + gap + self._tail).decode("utf-8", "replace")

    def close(self) -> None:
        """Let the pipe go; what was read stays."""
        self._drop_far()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _sealed(data: bytes) -> int:
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
    return fd
