"""Compilers and programs of other languages: what happens in the box between the fork and the exec, and how
files that a command made come out.

The zygote of such a box has other directories in its root and may exec; everything else is as for Python.
"""

from __future__ import annotations

import errno
import fcntl
import marshal
import os
import resource
import stat
import struct
from _socket import socket
from typing import Any

from ..isolation import seccomp
from ..isolation.place import Place
from ..isolation.rlimits import limit
from ..isolation.syscalls import EXEC_NUMBERS
from . import wire
from .pipe import Pipe
from .script import copy_stdin, take_streams

# Roles. After a command that keeps, its files stay for the collector that follows at once.
RUN, KEEP, COLLECT = b"C", b"K", b"O"
ROLES = frozenset((RUN, KEEP, COLLECT))
_filters: list[seccomp.ProgramFilter] = []
NO_START = 73  # the exec failed: the engine's fault
MAX_FILES = 2000
_STACK = 64 * 2**20


def settle(place: Place) -> None:
    """Filters of a zygote for commands."""
    if place.filter:
        _filters.append(seccomp.ProgramFilter(False))
        seccomp.install(seccomp.zygote_filter(place.filter, EXEC_NUMBERS))


def become(role: bytes, sock: socket, cpu: int, processes: int, place: Place) -> None:
    """Turn the forked process into the command, or collect; never returns.

    Args:
        role: `RUN`, `KEEP` or `COLLECT`.
        sock: The session's socket; its hello is sent.
        cpu: Seconds of the kernel's own CPU limit.
        processes: Limit of threads and processes of this box's user.
        place: What is in force around it.
    """
    if not place.filter:
        os.setsid()
    pipe = Pipe(sock)
    try:
        _become(role, pipe, cpu, processes, place)
    except BaseException as error:
        pipe.write(wire.ERROR, 0, f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:2000])
    os._exit(NO_START)


def _become(role: bytes, pipe: Pipe, cpu: int, processes: int, place: Place) -> None:
    take_streams(pipe.sock)
    first = pipe.read()
    if first is None:
        return
    order: dict[str, Any] = marshal.loads(first[2])
    if role == COLLECT:
        _collect(order["names"])
        os._exit(0)
    _unpack([*order["files"], *(marshal.loads(order["archive"]) if order["archive"] else ())])
    if order["stdin_file"]:
        copy_stdin()
    for fd in (0, 1, 2):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    os.set_inheritable(pipe.sock.fileno(), False)
    _confine(order, cpu, processes, place)
    program = order["argv"][0]
    room = dict(order["memory"]).get("address space", 0)
    if not program.startswith("/") and _static_size(program) > room:
        pipe.write(wire.FAILED, 0, b"MemoryError\0static data take more than the memory limit")
        os._exit(1)
    try:
        os.execve(program, order["argv"], order["environment"])
    except OSError as error:
        if program.startswith("/"):  # of the toolchain: not the program's fault
            raise
        cause = "MemoryError" if error.errno == errno.ENOMEM else "exec"
        pipe.write(wire.FAILED, 0, f"{cause}\0the program does not start: {error}".encode())


def _static_size(path: str) -> int:
    """Bytes that an ELF program wants at its start; a kernel that refuses them says SIGSEGV and no more."""
    with open(path, "rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return 0
        at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<2H", head, 54)
        file.seek(at)
        table = file.read(size * count)
    entries = (table[i : i + size] for i in range(0, len(table), max(size, 1)))
    return sum(struct.unpack_from("<Q", e, 40)[0] for e in entries if len(e) >= 48 and e[:4] == b"\1\0\0\0")


def _confine(order: dict[str, Any], cpu: int, processes: int, place: Place) -> None:
    kind = {"address space": resource.RLIMIT_AS, "data": resource.RLIMIT_DATA}
    for name, size in order["memory"]:
        limit(kind[name], size)
    limit(resource.RLIMIT_STACK, _STACK)
    limit(resource.RLIMIT_CPU, cpu, cpu + 1)
    limit(resource.RLIMIT_FSIZE, order["file_bytes"])
    limit(resource.RLIMIT_NOFILE, 256)
    limit(resource.RLIMIT_CORE, 0)
    if place.own_user:
        limit(resource.RLIMIT_NPROC, processes)
    if not place.filter:
        return
    if order["forks"]:
        seccomp.install(seccomp.tree_filter())
    else:
        _filters[0].install(os.getpid())


def _unpack(files: list[tuple[str, int, bytes]]) -> None:
    for name, mode, content in files:
        if "/" in name:
            os.makedirs(os.path.dirname(name), exist_ok=True)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.fchmod(fd, mode)
        os.close(fd)


def _collect(names: list[str]) -> None:
    """Write regular files to standard output as one marshal list of (name, mode, content).

    Their names and contents are the command's; nothing here or later reads meaning into them.

    Args:
        names: Endings of names; a file with none of them stays behind. A name without a dot must match whole.
    """
    found: list[tuple[str, int, bytes]] = []
    for folder, _, files in os.walk("."):
        for name in files:
            path = os.path.normpath(os.path.join(folder, name))
            if len(found) < MAX_FILES and any(_matches(path, wanted) for wanted in names):
                content = _regular(path)
                if content is not None:
                    found.append((path, 0o500, content))
    with os.fdopen(1, "wb", closefd=False) as out:
        marshal.dump(sorted(found), out)


def _matches(path: str, wanted: str) -> bool:
    return path.endswith(wanted) if wanted.startswith(".") else path == wanted


def _regular(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read() if stat.S_ISREG(os.fstat(fd).st_mode) else None
