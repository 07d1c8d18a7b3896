"""The calls that Python 3.11 does not wrap, through ctypes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

_X86 = os.uname().machine in ("x86_64", "amd64")
_SYS_PIVOT_ROOT = 155 if _X86 else 41
_SYS_MOUNT_SETATTR = 442
_SYS_SECCOMP = 317 if _X86 else 277
_SYS_CAPSET = 126 if _X86 else 91
_SYS_PERF_EVENT_OPEN = 298 if _X86 else 241
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47


class _Filter(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces of the caller."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount a file system, or change a mount."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {target}")


def detach(target: str) -> None:
    """Unmount lazily, umount2(2) with MNT_DETACH."""
    _check(_libc.umount2(target.encode(), 2), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make another mount the root."""
    _check(_libc.syscall(_SYS_PIVOT_ROOT, new.encode(), old.encode()), "pivot_root")


def read_only_tree(target: str) -> None:
    """Make a mount and all mounts below it read-only, without set-uid and devices (Linux 5.12)."""
    _mount_setattr(target, 0x8000, 1 | 2 | 4)  # AT_RECURSIVE; MOUNT_ATTR_RDONLY | NOSUID | NODEV


def read_only(target: str) -> None:
    """Make one mount read-only; of a device that means its mode, owner and times (Linux 5.12)."""
    _mount_setattr(target, 0, 1)


def _mount_setattr(target: str, flags: int, attributes: int) -> None:
    changes = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    at_fdcwd = ctypes.c_int(-100)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, at_fdcwd, target.encode(), ctypes.c_uint(flags), changes, ctypes.c_size_t(32)
    )
    _check(result, f"mount_setattr {target}")


def prepared_seccomp(program: ctypes.Array[ctypes.c_char], count: int) -> Callable[[], None]:
    """A function that installs a BPF filter of `count` instructions; needs no_new_privs."""
    prog = _Filter(count, ctypes.addressof(program))
    arguments = (ctypes.c_long(_SYS_SECCOMP), ctypes.c_uint(1), ctypes.c_uint(0), ctypes.byref(prog))

    def install() -> None:
        _check(_libc.syscall(*arguments), "seccomp")

    return install


def seccomp(program: ctypes.Array[ctypes.c_char], count: int) -> None:
    """Install a BPF filter of `count` instructions; needs no_new_privs."""
    prepared_seccomp(program, count)()


def no_new_privs() -> None:
    """Set-uid programs and file capabilities give nothing any more; irrevocable."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def become_subreaper() -> None:
    """Orphaned descendants become children of this process."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "subreaper")


def not_dumpable() -> None:
    """No other process of the same user may attach to this one."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "dumpable")


def die_with_parent() -> None:
    """SIGKILL when the parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            break
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    _check(_libc.syscall(_SYS_CAPSET, header, data), "capset")


def landlock_create_ruleset(attributes: ctypes.Array[ctypes.c_uint64] | None, size: int, flags: int) -> int:
    """A descriptor of new rules; with flag 1 the version of Landlock instead."""
    result = _libc.syscall(_SYS_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint(flags))
    _check(result, "landlock")
    return int(result)


def landlock_add_path(rules: int, access: int, handle: int) -> None:
    """Allow what `access` says on an opened file, or on an opened directory and all below it."""
    attributes = (ctypes.c_uint32 * 3)(access & 0xFFFFFFFF, access >> 32, handle)
    result = _libc.syscall(
        _SYS_LANDLOCK_ADD, rules, ctypes.c_uint(1), ctypes.byref(attributes), ctypes.c_uint(0)
    )
    _check(result, "landlock rule")


def landlock_restrict_self(rules: int) -> None:
    """Put the rules on this thread, irrevocably; needs no_new_privs."""
    _check(_libc.syscall(_SYS_LANDLOCK_RESTRICT, rules, ctypes.c_uint(0)), "landlock")


def perf_event_open(attributes: bytes, pid: int) -> int:
    """Descriptor of a counter of a process, on whatever processor it runs."""
    any_processor, no_group, close_on_exec = ctypes.c_int(-1), ctypes.c_int(-1), ctypes.c_ulong(8)
    arguments = (ctypes.c_char_p(attributes), ctypes.c_int(pid), any_processor, no_group, close_on_exec)
    result = _libc.syscall(_SYS_PERF_EVENT_OPEN, *arguments)
    _check(result, "perf_event_open")
    return int(result)


@cache
def keep_freed_memory() -> None:
    """Have malloc(3) keep what is freed for the next request, as it comes to do in a process that lives long
    (its thresholds grow with what is freed, up to these): whether pages are given back and touched anew must
    not depend on what was asked before. Once a process is enough. A C library without mallopt(3) goes on as
    it is.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)
