"""What this machine allows, found out by doing: each primitive is tried in a process of its own.

Run by the engine's interpreter (`boot.py probe`), so that nothing heavy is forked; prints one line a
primitive: name, yes or no, what was found.
"""

from __future__ import annotations

import os
import resource
import select
import sys
from collections.abc import Callable

from . import cgroup, landlock, libc, namespaces, seccomp

_SECONDS = 5.0


def _user_namespace() -> None:
    libc.unshare(libc.CLONE_NEWUSER)


def _all_namespaces() -> None:
    namespaces.enter()


def _filter() -> None:
    libc.no_new_privs()
    seccomp.install(seccomp.zygote_filter())
    seccomp.install(seccomp.program_filter(os.getpid()))
    try:
        os.fork()
    except PermissionError:
        return
    os._exit(1)


def _no_new_privs() -> None:
    libc.no_new_privs()


def _limits() -> None:
    for name in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(name, (2**28, 2**28))


def _process_limit() -> None:
    if os.geteuid() == 0:
        os.setresuid(namespaces.SPARE_UID, namespaces.SPARE_UID, namespaces.SPARE_UID)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        pid = os.fork()
    except BlockingIOError:
        return
    if pid == 0:
        os._exit(0)
    os._exit(1)


def _pidfd() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _landlock() -> str:
    libc.no_new_privs()
    version = landlock.restrict(read=["/usr"], write=[])
    try:
        os.listdir("/")
    except PermissionError:
        governed = [part for since, part in landlock.PARTS if version >= since]
        lacking = [part for since, part in landlock.PARTS if version < since]
        without = f"; without {', '.join(lacking)}" if lacking else ""
        return f"version {version}: {', '.join(governed)}{without}"
    raise OSError("without effect")


def _cgroup() -> str:
    groups, problem = cgroup.open_groups()
    if groups is None:
        raise OSError(problem)
    groups.sweep()
    groups.close()
    return f"{groups.version}: {', '.join(groups.homes)} writable"


def _instruction_counter() -> str:
    from ..engine.counters import Instructions

    Instructions(os.getpid()).close()
    return "hardware, this process in user mode"


PROBES: dict[str, Callable[[], str | None]] = {
    "user_namespace": _user_namespace,
    "all_namespaces": _all_namespaces,
    "seccomp": _filter,
    "no_new_privs": _no_new_privs,
    "landlock": _landlock,
    "cgroup": _cgroup,
    "rlimits": _limits,
    "process_limit": _process_limit,
    "pidfd": _pidfd,
    "instruction_counter": _instruction_counter,
}


def attempt(action: Callable[[], str | None]) -> tuple[bool, str]:
    """Try it in a child: whether it works, and what was found or what the kernel said."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, (action() or "").encode()[:400])
            os._exit(0)
        except BaseException as error:
            os.write(write_end, f"{type(error).__name__}: {error}".encode()[:200])
        finally:
            os._exit(1)
    os.close(write_end)
    # A probe that hangs must not hang the report.
    ready, _, _ = select.select([read_end], [], [], _SECONDS)
    text = os.read(read_end, 400).decode("utf-8", "replace") if ready else "no answer"
    os.close(read_end)
    if not ready:
        os.kill(pid, 9)
    _, status = os.waitpid(pid, 0)
    return status == 0, text or ("" if status == 0 else "without effect")


def main() -> None:
    """Try all; one line each, parted by tabs."""
    for name, action in PROBES.items():
        works, text = attempt(action)
        text = " ".join(text.split())
        sys.stdout.write(f"{name}\t{'yes' if works else 'no'}\t{text}\n")
    sys.stdout.flush()
