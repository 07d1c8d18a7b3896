"""Levels of isolation: what each one promises, what to say when it cannot be had, and a check by doing at
every start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..program import CallTest
from ..verdict import Isolation, IsolationUnavailable, Result, SandboxError, Verdict
from . import namespaces, seccomp
from .place import PLACES

LEVELS = tuple(PLACES)  # strongest first
HOLDS = {
    "full": "namespaces, a read-only root, a system call filter: everything of the machine is out of reach",
    "filter": "Landlock and a system call filter, no namespaces: no process, network, or file but its own",
    "seccomp": "a system call filter: no process, no network, no change of a file; files can be read",
    "process": "a process with resource limits: holds off accidents, not intent",
    "none": "a process and clocks: for tests of the sandbox itself",
}

SELF_CHECK = """
import errno, os, resource, socket
def refused(action, *args):
    try:
        action(*args)
    except OSError:
        return True
    return False
def forks():
    if os.fork() == 0:
        os._exit(0)
def makes(path):
    path = os.path.join(path, "canary-of-the-sandbox")
    os.mkdir(path)
    os.rmdir(path)
def executes():
    try:
        os.execv("/canary", ["canary"])
    except OSError as error:
        return error.errno != errno.EPERM
def sends_to_a_name():
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"", "\\0canary-of-the-sandbox")
def shut(path):
    # nothing is there but what leads to a library
    if path in LIBRARIES or refused(os.listdir, path):
        return True
    leads = any(library.startswith(path + "/") for library in LIBRARIES)
    return leads and all(shut(path + "/" + name) for name in os.listdir(path))
def reach(what):
    if what == "fork":
        return refused(forks)
    if what == "exec":
        return not executes()
    if what == "signal":
        return refused(os.kill, os.getppid(), 0)
    if what == "network":
        kinds = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        return all(refused(socket.socket, kind) for kind in kinds) and refused(sends_to_a_name)
    if what == "attach":
        return refused(open, f"/proc/{os.getppid()}/mem", "rb")
    if what == "read":
        return all(shut(path) for path in ("/home", "/etc", "/proc", "/sys", "/var"))
    if what == "write":
        places = {"/", "/usr/lib", "/var/tmp", "/dev/shm", "/tmp", ".."} - {os.getcwd()}
        return all(refused(makes, place) for place in places)
    if what == "change":
        return refused(makes, ".") and refused(open, "canary-of-the-sandbox", "w")
    if what == "modes":
        before = os.stat(".")
        for change in (lambda: os.chmod(".", 0o705), lambda: os.utime(".", (1, 1))):
            refused(change)
        after = os.stat(".")
        return (before.st_mode, before.st_mtime) == (after.st_mode, after.st_mtime)
    if what == "limits":
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        return 0 < soft <= hard and resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
    return len(os.environ) == 0
"""
DOORS = {
    "environment": "no environment",
    "limits": "memory is limited",
    "fork": "no new processes",
    "exec": "no other programs",
    "signal": "no signals to others",
    "network": "no network, no named sockets",
    "attach": "no memory of other processes",
    "write": "no writing outside its own directory",
    "read": "no files of this machine",
    "modes": "no change of modes and times",
    "change": "no writing at all",
}
_ALWAYS = ("environment", "limits")
_CALLS = (*_ALWAYS, "fork", "exec", "signal", "network")
PROMISES: dict[str, tuple[str, ...]] = {
    "full": (*_CALLS, "attach", "write", "read"),
    "filter": (*_CALLS, "attach", "write", "read", "modes"),
    "seccomp": (*_CALLS, "write", "modes", "change"),
    "process": _ALWAYS,
    "none": ("environment",),
}

_DOCKER = "In Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
REMEDIES = {
    "unshare": (
        "user namespaces are refused. As root: sysctl -w user.max_user_namespaces=15000; on Ubuntu 23.10 or "
        "later also sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; on older Debian "
        f"sysctl -w kernel.unprivileged_userns_clone=1. {_DOCKER}"
    ),
    "uid_map": f"the user map is refused. {_DOCKER}",
    "mount": f"mounts are refused. {_DOCKER}, or --cap-add SYS_ADMIN",
    "pivot_root": f"pivot_root is refused. {_DOCKER}",
    "seccomp": "system call filters are refused: CONFIG_SECCOMP_FILTER is needed, on x86_64 or aarch64",
    "landlock": (
        "Linux 5.13 or later with landlock among the security modules (cat /sys/kernel/security/lsm; boot "
        "with lsm=landlock,... to add it). In Docker before 23: --security-opt seccomp=unconfined"
    ),
    "spare user": (
        "programs are to run as a user of their own, who must be able to read the interpreter. Use one "
        "outside root's home, as in /usr or /opt, or start as an ordinary user"
    ),
    "cgroup": (
        "a group with the memory controller that this user may write. With systemd: "
        "systemd-run --user --scope -p Delegate=yes, or a service with Delegate=memory pids. In Docker: "
        "--cgroupns=private with a writable /sys/fs/cgroup, all other processes moved to a leaf of their own"
    ),
}
_announced: set[str] = set()


def check(require: str) -> None:
    """Refuse unknown levels, and this machine where it can have none.

    Raises:
        ValueError: Not a level.
        IsolationUnavailable: Not Linux, or no filter for this kind of processor.
    """
    if require not in LEVELS:
        raise ValueError(f"require is {require!r}; choose from {', '.join(LEVELS)}")
    if sys.platform != "linux":
        raise IsolationUnavailable(f"the sandbox runs on Linux only, this is {sys.platform}")
    if PLACES[require].filter and not seccomp.supported():
        raise IsolationUnavailable(
            f"level {require!r} has no system call table for {os.uname().machine}; only 'process' runs here"
        )


def remedy(problem: str) -> str:
    """How to get what was refused, as far as its text tells; empty when it does not."""
    return next((REMEDIES[step] for step in REMEDIES if step in problem), "")


def refusal(level: str, problem: str, works: Callable[[str], bool]) -> IsolationUnavailable:
    """What to say where a level cannot be had.

    Args:
        level: The one that was required.
        problem: At which step it failed, and how.
        works: Tries a level.
    """
    how = remedy(problem) or "see `codealign doctor`"
    text = f"isolation level {level!r} is not available on this machine ({problem}): {how}. "
    weaker = next((name for name in LEVELS[LEVELS.index(level) + 1 : -1] if works(name)), None)
    if weaker is None:
        return IsolationUnavailable(f"{text}No weaker level works here either")
    return IsolationUnavailable(
        f"{text}The strongest that works here is require={weaker!r} (tried just now): {HOLDS[weaker]}"
    )


def describe(level: str, facts: Mapping[str, Any]) -> Isolation:
    """What is in force, from what the engine found when it started."""
    place = PLACES[level]
    kind = "address space" if place.limited else "none"
    return Isolation(
        level,
        namespaces=("user", "mount", "pid", "net", "ipc", "uts", "cgroup") if place.boxed else (),
        seccomp=bool(place.filter),
        landlock_abi=facts["landlock"],
        cgroup=facts["cgroup"],
        memory_limit_kind=f"{kind} + cgroup" if facts["cgroup"] else kind,
        missing=tuple(_missing(level, facts)),
    )


def _missing(level: str, facts: Mapping[str, Any]) -> list[str]:
    place = PLACES[level]
    found = []
    if not place.boxed:
        found += ["namespaces", "read-only root", "quota of files"]
        found += [f"separate user ({facts['no_user']})"] if facts["no_user"] else []
    if not facts["landlock"]:
        found.append("Landlock")
    if not place.filter:
        found.append("system call filter")
    if not place.limited:
        found.append("resource limits")
    elif not facts["cgroup"]:
        found.append(f"cgroup ({facts['no_cgroup']})")
    return found


def announce(found: Isolation) -> None:
    """Say on stderr what a level lacks, once a process and level; nothing at level `full`."""
    if found.level == "full" or found.level in _announced:
        return
    _announced.add(found.level)
    sys.stderr.write(
        f"sandbox: isolation level {found.level!r}, less than 'full' ({HOLDS[found.level]}). "
        f"Missing: {', '.join(found.missing)}. `codealign doctor` says how to get it\n"
    )


def self_check(libraries: Sequence[str] = ()) -> str:
    """Source of the program that tries the doors, where Python's own directories, which may lie in somebody's
    home, and these files and directories may be seen.
    """
    seen = [*namespaces.python_paths()[0], *libraries]
    return f"LIBRARIES = {seen!r}\n{SELF_CHECK}"


def self_check_tests(level: str) -> tuple[CallTest, ...]:
    """Calls of `SELF_CHECK` that must be answered True at a level."""
    return tuple(CallTest((name,), True) for name in PROMISES[level])


def judge_self_check(level: str, result: Result) -> None:
    """Refuse to go on when a level does not hold.

    Raises:
        IsolationUnavailable: Something is in reach that must not be.
        SandboxError: The check itself did not run.
    """
    if result.verdict is Verdict.passed:
        return
    cells = zip(PROMISES[level], result.cells, strict=False)
    open_doors = [DOORS[name] for name, cell in cells if cell.verdict is Verdict.wrong_answer]
    if open_doors:
        raise IsolationUnavailable(f"a test program found open: {', '.join(open_doors)}")
    raise SandboxError(f"the check at start failed: {result.verdict} {result.cause} {result.message}")
