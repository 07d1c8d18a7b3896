"""A program's own directory where no file system of its own bounds it: how much is in it, and its removal.

Nurseries and zygotes do this in a process apart, so that names that one program gave to its files stay out of
the memory that later programs inherit.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Callable

MOST_BYTES = 16 * 2**20  # as in a box
MOST_FILES = 1024
_FEW = 100
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def start(action: Callable[[str], bool], path: str) -> int:
    """Do something with a path in a process of its own: its number. It ends with 0 if the action says yes."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if action(path) else 1
        finally:
            os._exit(code)
    return pid


def apart(action: Callable[[str], bool], path: str) -> bool:
    """What an action says of a path, done in a process of its own; False if that fails."""
    return os.waitpid(start(action, path), 0)[1] == 0


def too_many(path: str) -> bool:
    """Whether a directory holds more than a program may keep; the walk ends when that is known."""
    count = size = 0
    waiting = [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    count, size = count + 1, size + found.st_blocks * 512
                    if count > MOST_FILES or size > MOST_BYTES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # deeper than can be looked at
                return True
    return False


class Glance:
    """A look, in a process apart, at whether too much lies in the current directory: one at a time.

    Attributes:
        handle: Descriptor that can be read when the look has ended; -1 when there is none.
    """

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._pid = 0
        self.handle = -1

    def begin(self) -> None:
        """Start to look, unless one is under way."""
        if self.handle < 0:
            self._pid = start(too_many, ".")
            self.handle = os.pidfd_open(self._pid)
            self._poll.register(self.handle, select.POLLIN)

    def end(self) -> bool:
        """Whether it was too much."""
        self._poll.unregister(self.handle)
        os.close(self.handle)
        self.handle = -1
        return os.waitpid(self._pid, 0)[1] == 0

    def stop(self) -> None:
        """Look no longer."""
        if self.handle >= 0:
            os.kill(self._pid, 9)
            self.end()


def remove(path: str) -> bool:
    """Remove a directory and all in it, however deep and whatever its modes; follow no link.

    Returns:
        Whether all of it is gone.
    """
    try:
        _empty_and_close(_open(path, None), sys.maxsize)
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def clear(path: str) -> bool:
    """As `remove`, but keep the directory itself, and its mode; give up where that would take long."""
    try:
        _empty_and_close(os.open(path, _FLAGS), _FEW)
    except OSError:
        return False
    return True


def _empty_and_close(top: int, most: int) -> None:
    try:
        _empty(top, most)
    finally:
        os.close(top)


def _empty(top: int, most: int) -> None:
    """Take what lies in directories up to the top, level by level: neither paths nor calls get longer.

    Raises:
        OSError: Something cannot be removed, or there are more directories than `most`.
    """
    moved, mark = 0, os.urandom(8).hex()  # a name that no program can have taken before
    while names := os.listdir(top):
        for name in names:
            if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=top)
                continue
            inner = _open(name, top)
            try:
                for below in os.listdir(inner):
                    if stat.S_ISDIR(os.stat(below, dir_fd=inner, follow_symlinks=False).st_mode):
                        os.close(_open(below, inner))  # a directory that is moved must be writable
                        os.rename(below, f"{mark}-{moved}", src_dir_fd=inner, dst_dir_fd=top)
                        moved += 1
                        if moved > most:
                            raise OSError(errno.EBUSY, "too many directories")
                    else:
                        os.unlink(below, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _open(path: str, within: int | None) -> int:
    """A directory, made readable and writable to its owner."""
    handle = -1
    try:
        handle = os.open(path, _FLAGS, dir_fd=within)
        os.fchmod(handle, 0o700)
    except PermissionError:
        if handle < 0:
            os.chmod(path, 0o700, dir_fd=within)
            handle = os.open(path, _FLAGS, dir_fd=within)
    return handle
