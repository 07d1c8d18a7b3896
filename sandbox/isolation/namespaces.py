"""The box: user, mount, pid, network, ipc, uts and cgroup namespaces around a read-only root of almost
nothing.

Two processes work together: the one that enters (`enter`, then a fork whose child calls `build_root` and
`drop_rights`) and its parent outside, which writes the user maps (`write_maps`).
"""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import sysconfig
from _socket import sethostname
from collections.abc import Mapping, Sequence
from typing import Any

from . import libc

SPARE_UID = 65534  # for root: limits on the number of processes do not bind uid 0
WORK = "/tmp"
STDIN_FILE = "/tmp/.stdin"  # put there for programs that open /dev/stdin
TMPFS = "size=16m,nr_inodes=1024,mode=1777"
_ALL = (
    libc.CLONE_NEWUSER
    | libc.CLONE_NEWNS
    | libc.CLONE_NEWPID
    | libc.CLONE_NEWNET
    | libc.CLONE_NEWIPC
    | libc.CLONE_NEWUTS
    | libc.CLONE_NEWCGROUP
)
_PLAIN = libc.MS_NOSUID | libc.MS_NODEV
DEVICES = ("null", "zero", "random", "urandom")


def enter() -> None:
    """Leave the caller's namespaces; the next fork's child is pid 1 of the new ones.

    Raises:
        OSError: The kernel or a security module refuses.
    """
    libc.unshare(_ALL)


def write_maps(pid: int) -> int:
    """Map users of the box of process `pid` to users outside, as seen from its parent.

    Returns:
        The uid that programs in the box are to take: a spare one where the caller may map it, else 0 of the
        box, which is the caller's own uid outside.

    Raises:
        OSError: The kernel refuses even the plain map.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        both = f"0 0 1\n{SPARE_UID} {SPARE_UID} 1\n"
        try:
            _write(pid, "gid_map", both)
            _write(pid, "uid_map", both)
        except OSError:
            pass  # root of an outer box that has one uid only
        else:
            return SPARE_UID
    _write(pid, "setgroups", "deny")
    _write(pid, "uid_map", f"0 {uid} 1\n")
    _write(pid, "gid_map", f"0 {gid} 1\n")
    return 0


def _write(pid: int, name: str, text: str) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def python_paths() -> tuple[list[str], list[str]]:
    """What Python needs to run: directories to bind, and directories below them to hide (installed packages).

    As little as will do: benchmarks with their answers may be among installed packages, and anything may
    lie in /usr/lib.
    """
    candidates = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    candidates += ["/usr/share/zoneinfo", *library_paths()]
    for prefix in map(os.path.realpath, (sys.base_prefix, sys.base_exec_prefix)):
        if prefix not in ("/", "/usr", "/usr/local"):  # one of its own, with shared libraries of its own
            candidates += [os.path.join(prefix, name) for name in ("lib", "lib64")]
    bind: list[str] = []
    for path in sorted({os.path.realpath(path) for path in candidates}):
        if os.path.isdir(path) and not any(path.startswith(parent + "/") for parent in bind):
            bind.append(path)
    hide = []
    for path in bind:
        for kind in ("site-packages", "dist-packages"):
            hide += [
                found
                for found in (f"{path}/{kind}", *glob.glob(f"{path}/python*/{kind}"))
                if os.path.isdir(found)
            ]
    return bind, hide


def library_paths() -> list[str]:
    """Where the system keeps shared libraries."""
    triplet = getattr(sys.implementation, "_multiarch", "")
    found = [
        f"{top}/{triplet}" for top in ("/lib", "/usr/lib") if triplet and os.path.isdir(f"{top}/{triplet}")
    ]
    return found or ["/lib", "/lib64", "/usr/lib", "/usr/lib64"]


def build_root(libraries: Sequence[str] = (), box: Mapping[str, Any] | None = None) -> None:
    """Replace the root of this mount namespace by a read-only one with Python, four devices and an empty
    /tmp.

    Args:
        libraries: Files and directories of installed packages that are to be seen.
        box: Of a zygote for commands: `paths` (what to bind instead of Python: pairs of source and place),
            `work` (options of the file system of /tmp) and `execute` (whether files there may be run).

    Raises:
        OSError: A mount is refused; its text names which.
    """
    bind, hide = ([], []) if box else python_paths()
    pairs = box["paths"] if box else [(path, path) for path in bind]
    pairs = [(os.path.realpath(source), place) for source, place in pairs]
    sethostname("sandbox")
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("root", "/tmp", "tmpfs", _PLAIN, "size=1m,nr_inodes=512,mode=755")
    os.chdir("/tmp")
    os.mkdir("old")
    libc.pivot_root(".", "old")
    os.chdir("/")
    for source, place in pairs:
        _bind(source, place)
    for name in ("lib", "lib64", "usr/lib64"):  # where the dynamic loader looks, on merged systems by a link
        if os.path.islink(f"/old/{name}") and not os.path.lexists(f"/{name}"):
            os.makedirs(os.path.dirname(f"/{name}"), exist_ok=True)
            os.symlink(os.readlink(f"/old/{name}"), f"/{name}")
    for path in hide:
        libc.mount("hidden", path, "tmpfs", _PLAIN, "size=256k,nr_inodes=256,mode=755")
    for path in () if box else libraries:
        _bind(path, path)
    for path in hide:
        libc.mount("none", path, None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | _PLAIN)
    os.mkdir("/dev")
    for name in DEVICES:
        if os.path.exists(f"/old/dev/{name}"):
            os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
            libc.mount(f"/old/dev/{name}", f"/dev/{name}", None, libc.MS_BIND)
            # Where the box has its caller's uid, the caller's own devices could be given another mode.
            with contextlib.suppress(OSError):  # before Linux 5.12
                libc.read_only(f"/dev/{name}")
    os.symlink(STDIN_FILE, "/dev/stdin")
    os.mkdir(WORK)
    libc.detach("/old")
    os.rmdir("/old")
    kept = libc.MS_NOEXEC if box and not box["execute"] else 0
    libc.mount("work", WORK, "tmpfs", _PLAIN | kept, box["work"] if box else TMPFS)
    libc.mount("none", "/", None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | _PLAIN)
    os.chdir(WORK)


def _bind(source: str, path: str) -> None:
    if os.path.isfile("/old" + source):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    else:
        os.makedirs(path, mode=0o755, exist_ok=True)
    libc.mount("/old" + source, path, None, libc.MS_BIND | libc.MS_REC)
    try:
        libc.read_only_tree(path)
    except OSError:  # before Linux 5.12: the top mount only
        kept = libc.MS_NOEXEC if os.statvfs(path).f_flag & os.ST_NOEXEC else 0
        libc.mount("none", path, None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | _PLAIN | kept)


def drop_rights(uid: int) -> None:
    """Become the box's unprivileged user without any capability.

    Args:
        uid: As `write_maps` returned it.
    """
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc.drop_capabilities()
    libc.no_new_privs()
    libc.not_dumpable()
