"""A program's own directory where no file system of its own bounds it: how much is in it, and its removal.

Nurseries and zygotes do this in a process apart, so that names that one program gave to its files stay out of
the memory that later programs inherit.
"""

from __future__ import annotations

import os
from collections.abc import Callable

MOST_BYTES = 16 * 2**20  # as in a box
MOST_FILES = 1024


def apart(action: Callable[[str], bool], path: str) -> bool:
    """What an action says of a path, done in a process of its own; False if that fails."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if action(path) else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


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
        except OSError:
            continue
    return False


def remove(path: str, within: int | None = None) -> bool:
    """Remove a directory and all in it, also what a program locked against its own user; follow no link.

    Returns:
        Whether all of it is gone.
    """
    try:
        handle = _open_directory(path, within)
        try:
            with os.scandir(handle) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        remove(entry.name, handle)
                    else:
                        os.unlink(entry.name, dir_fd=handle)
        finally:
            os.close(handle)
        os.rmdir(path, dir_fd=within)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _open_directory(path: str, within: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    handle = -1
    try:
        handle = os.open(path, flags, dir_fd=within)
        os.fchmod(handle, 0o700)
    except PermissionError:
        if handle < 0:
            os.chmod(path, 0o700, dir_fd=within)
            handle = os.open(path, flags, dir_fd=within)
    return handle
