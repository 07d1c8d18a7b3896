"""Landlock: a process gives up files, TCP, signals to others and abstract sockets; that needs no right.

Kernel Documentation/userspace-api/landlock.rst. What the kernel's version lacks is left out: version 1 (5.13)
has files, 3 truncation, 4 (6.7) TCP, 5 device ioctls, 6 (6.12) signals and abstract sockets. It does not
govern changing modes and times, nor named sockets: the system call filter does that.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator

from . import libc

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_FIFO, _MAKE_SYM = 16, 32, 128, 256, 1024, 4096
_REFER, _TRUNCATE, _IOCTL_DEV = 8192, 16384, 32768
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_FIFO | _MAKE_SYM
_TCP = 3  # bind, connect
_SCOPES = 3  # abstract sockets, signals
PARTS = ((1, "files"), (3, "truncation"), (4, "TCP"), (5, "device ioctls"), (6, "signals, abstract sockets"))


def abi() -> int:
    """Version of Landlock that this kernel lets a process use.

    Raises:
        OSError: ENOSYS: not built in, or refused by a container's filter; EOPNOTSUPP: switched off at boot.
    """
    return libc.landlock_create_ruleset(None, 0, 1)


def _governed(version: int) -> int:
    newest = _REFER if version >= 2 else 0
    newest |= _TRUNCATE if version >= 3 else 0
    newest |= _IOCTL_DEV if version >= 5 else 0
    return 0x1FFF | newest


def restrict(*, read: Iterable[str], listed: Iterable[str] = (), write: Iterable[str]) -> int:
    """Refuse this process and its children everything but the paths given; irrevocable.

    Args:
        read: Files, or directories with all below them, that may be read; nothing may be executed.
        listed: Directories whose names, and those below, may be listed.
        write: Directories in which files may be made, changed and removed, or files to write.

    Returns:
        The version of Landlock in force.

    Raises:
        OSError: The kernel has none, or refuses; needs no_new_privs.
    """
    version = abi()
    governed = _governed(version)
    values = (governed, _TCP, _SCOPES)[: 3 if version >= 6 else 2 if version >= 4 else 1]
    attributes = (ctypes.c_uint64 * len(values))(*values)
    rules = libc.landlock_create_ruleset(attributes, ctypes.sizeof(attributes), 0)
    try:
        for paths, access in ((read, _READ), (listed, _READ_DIR), (write, _WRITE | _REFER | _TRUNCATE)):
            for path in paths:
                _allow(rules, path, access & governed)
        libc.landlock_restrict_self(rules)
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: str, access: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or not to be had, needs no permission
    try:
        libc.landlock_add_path(rules, access if os.path.isdir(path) else access & _OF_FILES, handle)
    finally:
        os.close(handle)


def without(tops: Iterable[str], hidden: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Paths that together are `tops` less what is hidden below them; True for those that are only listed.

    Landlock can take nothing away again, so a directory with something hidden in it is given entry by entry.
    """
    hidden = list(hidden)
    for path in tops:
        if path in hidden:
            continue
        if not any(one.startswith(path + "/") for one in hidden):
            yield path, False
            continue
        yield path, True
        yield from without([f"{path}/{name}" for name in sorted(os.listdir(path))], hidden)
