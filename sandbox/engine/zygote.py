"""A zygote: the small process inside a box that is forked for every program, and that clears up after it.

It is started before any program or test is read and never reads one: a program's source comes to the forked
child over a pipe of its own, so no child inherits another program's text.
"""

from __future__ import annotations

import fcntl
import gc
import marshal
import os
import resource
import select
import struct
import sys
import time
from _socket import AF_UNIX, CMSG_SPACE, SCM_RIGHTS, SHUT_WR, SOCK_STREAM, SOL_SOCKET, socket, socketpair
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..isolation import libc, seccomp
from ..isolation.place import Place
from ..isolation.rlimits import limit
from . import checking, files, launch, script, solution, testing, wire
from .pipe import Pipe

# Orders: kind, role, session, address space, CPU seconds, process limit.
ORDER = struct.Struct("<ccIQII")
# Reports: session, wait status, CPU seconds, largest resident size in bytes, marks: whether the box must be
# thrown away (DIRTY), whether the program was ended for the size of its files (FULL).
REPORT = struct.Struct("<IidQB")
DIRTY, FULL = 1, 2
FORK, KILL = b"F", b"K"
SOLUTION, TEST, BRANCHING, SCRIPT, CHECK = b"S", b"T", b"B", b"P", b"X"
FILE_BYTES = 8 * 2**20
OPEN_FILES = 64
THREADS = 64
BRANCHES = (
    5  # processes and threads where a program may fork: the zygote, itself, its branch, and two to spare
)
DATA_FD = 3
# What programs import most: loaded once in the zygote, at no measurable cost to the fork.
COMMON = (
    "typing",
    "collections",
    "math",
    "re",
    "itertools",
    "functools",
    "heapq",
    "bisect",
    "string",
    "copy",
)
NO_MEMORY = 72
GLANCE_MS = 50
_filters: list[seccomp.ProgramFilter] = []  # made by `settle`, used after each fork

ROLES: dict[bytes, Callable[[Pipe], None]] = {
    SOLUTION: solution.main,
    TEST: testing.main,
    BRANCHING: solution.main,
    SCRIPT: script.main,
    CHECK: checking.main,
}


def serve(orders: socket, place: Place, base: int) -> None:
    """Obey orders until the supervisor is gone.

    Args:
        orders: Socket of whole messages (SOCK_SEQPACKET) to the supervisor.
        place: What is in force around this process.
        base: Bytes of address space that the interpreter itself takes; a program's limit comes on top.
    """
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    gc.collect()
    gc.freeze()
    empty = os.stat(".")
    while True:
        data, ancillary, _, _ = orders.recvmsg(64, CMSG_SPACE(4))
        if not data:
            os._exit(0)
        kind, role, session, memory, cpu, processes = ORDER.unpack(data)
        if kind != FORK:
            continue  # a kill order that crossed the report of the end
        fd = _descriptor(ancillary)
        pid = os.fork()
        if pid == 0:
            _child(fd, role, base + memory, cpu, processes, place)
        os.close(fd)
        status, used, resident, marks = _watch(poll, orders, pid, session, place)
        fcntl.fcntl(1, fcntl.F_SETFL, 0)
        marks |= 0 if role == launch.KEEP or _clear_work(empty, place) else DIRTY
        orders.send(REPORT.pack(session, status, used, resident, marks))


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int:
    level, kind, data = ancillary[0]
    if (level, kind) != (SOL_SOCKET, SCM_RIGHTS):
        os._exit(70)
    return int(struct.unpack("i", data[:4])[0])


def _child(fd: int, role: bytes, memory: int, cpu: int, processes: int, place: Place) -> None:
    code = 0
    try:
        if fd != DATA_FD:
            os.dup2(fd, DATA_FD)
        os.closerange(DATA_FD + 1, 1024)
        if role in launch.ROLES:
            sock = socket(fileno=DATA_FD)
            sock.send(b"\0")
            launch.become(role, sock, cpu, processes, place)
        if not place.filter:
            os.setsid()
        if place.limited:
            limit(resource.RLIMIT_AS, memory)
            limit(resource.RLIMIT_CPU, cpu, cpu + 1)
            limit(resource.RLIMIT_FSIZE, FILE_BYTES)
            limit(resource.RLIMIT_NOFILE, OPEN_FILES)
            limit(resource.RLIMIT_CORE, 0)
        if place.own_user:
            limit(resource.RLIMIT_NPROC, BRANCHES if role == BRANCHING else processes)
        if place.filter:
            _filters[role == BRANCHING].install(os.getpid())
        sock = socket(fileno=DATA_FD)
        sock.send(b"\0")  # carries this process's number to the supervisor, before anything untrusted runs
        ROLES[role](Pipe(sock))
    except MemoryError:  # the program left no memory for the harness
        code = NO_MEMORY
    except BaseException:
        code = 71
    finally:
        os._exit(code)


def _watch(
    poll: select.poll, orders: socket, pid: int, session: int, place: Place
) -> tuple[int, float, int, int]:
    """Wait for the program's end or an order to end it; leave no process of it behind."""
    pidfd = os.pidfd_open(pid)
    poll.register(pidfd, select.POLLIN)
    running = True
    marks = 0
    glance = files.Glance(poll)
    glances = None if place.boxed or place.filter == seccomp.READING else GLANCE_MS
    while running:
        events = poll.poll(glances)
        if not events:
            glance.begin()
        for fd, _ in events:
            if fd == pidfd:
                running = False
            elif fd == glance.handle:
                if glance.end():
                    marks = FULL
                    _kill_all(pid, place)
            else:
                data = orders.recv(64)
                if not data:
                    glance.stop()
                    _kill_all(pid, place)
                    _reap(pid, place)
                    os._exit(0)
                order = ORDER.unpack(data)
                if order[0] == KILL and order[2] == session:
                    _kill_all(pid, place)
    glance.stop()
    poll.unregister(pidfd)
    os.close(pidfd)
    if not place.boxed:
        _kill_all(pid, place)
    _, status, usage = os.wait4(pid, 0)
    _reap(pid, place)
    return status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, marks


def _kill_all(pid: int, place: Place) -> None:
    try:
        if place.boxed:
            os.kill(-1, 9)
        elif place.filter:
            os.kill(pid, 9)  # it made no other
        else:
            os.killpg(pid, 9)
    except ProcessLookupError:
        pass
    except PermissionError:
        os.kill(pid, 9)


def _reap(pid: int, place: Place) -> None:
    """End all descendants of the program, children of this process now, and wait until they are gone."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if place.boxed:
                _kill_all(pid, place)
                os.waitpid(-1, 0)
            else:
                _kill_children()
                time.sleep(0.001)
        except ChildProcessError:
            return


def _kill_children() -> None:
    """Without a box: a descendant that left the process group comes to this subreaper as a child."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        for pid in file.read().split():
            os.kill(int(pid), 9)


def _clear_work(empty: os.stat_result, place: Place) -> bool:
    """Empty the work directory; False when something remains that only a new box takes away."""
    now = os.stat(".")
    if now.st_mode != empty.st_mode:
        return False
    # A box's directory is in memory: its size grows with every name and shrinks with every one that goes.
    if place.boxed and (now.st_size, now.st_nlink) == (empty.st_size, empty.st_nlink):
        return True
    if not place.boxed and not os.listdir("."):
        return True
    return files.apart(files.clear, ".")


def preload(libraries: dict[str, Any]) -> None:
    """Import what programs import most, and the libraries that the user named; in the nursery, once for all
    zygotes.
    """
    sys.path += libraries["sites"]
    for name in (*COMMON, *libraries["names"]):
        import_module(name)
    _warm()


def _warm() -> None:
    """Run a program and a test once, here: Python makes some of its own parts at first use (the types behind
    `compile` alone take 2 ms), and what the zygote has made its children need not make.
    """
    near, far = socketpair(AF_UNIX, SOCK_STREAM)
    source = b"import math\ndef f(n):\n    return [n, 'a', 1.5, {n: (None,)}]"
    near.sendall(wire.frame(wire.LOAD, 0, marshal.dumps((source, "f"))) + wire.call(0, ((1,), {})))
    near.shutdown(SHUT_WR)
    solution.main(Pipe(far))
    sys.modules.pop(solution.MODULE)


def settle(place: Place, commands: bool = False) -> None:
    """Last steps before the first order: rights that a zygote and its children never need again.

    Args:
        place: What is in force around it.
        commands: Whether it runs commands, which may exec.
    """
    os.environ.clear()
    sys.argv[:] = ["solution"]
    os.umask(0o077)
    if commands:
        launch.settle(place)
    elif place.filter:
        _filters.extend(seccomp.ProgramFilter(forks) for forks in (False, True))
        seccomp.install(seccomp.zygote_filter(place.filter))
    if not place.boxed and not place.filter:
        libc.become_subreaper()
