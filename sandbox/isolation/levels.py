"""Levels of isolation: what each one promises, what to say when it cannot be had, and a check by doing at
every start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from ..program import CallTest
from ..verdict import Isolation, IsolationUnavailable, Result, SandboxError, Verdict
from . import seccomp

LEVELS = ("full", "process")
_Client = TypeVar("_Client")

SELF_CHECK = """
import os, socket
def refused(action, *args):
    try:
        action(*args)
    except OSError:
        return True
    return False
def reach(what):
    if what == "fork":
        return refused(os.fork)
    if what == "exec":
        return refused(os.execv, "/bin/true", ["true"])
    if what == "signal":
        return refused(os.kill, 1, 0)
    if what == "network":
        return refused(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    if what == "read":
        return all(refused(os.listdir, path) for path in ("/home", "/etc", "/proc", "/sys", "/var"))
    if what == "write":
        return refused(os.mkdir, "/canary") and refused(os.mkdir, "/usr/lib/canary")
    return len(os.environ) == 0
"""
CHECKS = ("environment", "fork", "exec", "signal", "network", "read", "write")

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
}


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
    if require == "full" and not seccomp.supported():
        raise IsolationUnavailable(
            f"level 'full' has no system call table for {os.uname().machine}; only 'process' runs here"
        )


def start(require: str, make: Callable[[], _Client]) -> _Client:
    """Start an engine; where the machine refuses, say what is missing and how to get it.

    Raises:
        IsolationUnavailable: With the remedy.
    """
    try:
        return make()
    except IsolationUnavailable as error:
        text = str(error)
        remedy = next((REMEDIES[step] for step in REMEDIES if step in text), "see `codealign doctor`")
        raise IsolationUnavailable(
            f"isolation level {require!r} is not available on this machine ({text}): {remedy}. "
            "require='process' runs programs with resource limits only, which holds off accidents alone"
        ) from None


def describe(level: str) -> Isolation:
    """What is in force at a level."""
    if level == "full":
        return Isolation(
            "full",
            namespaces=("user", "mount", "pid", "net", "ipc", "uts", "cgroup"),
            seccomp=True,
        )
    return Isolation("process", missing=("namespaces", "seccomp", "read-only root"))


def self_check_tests(level: str) -> tuple[CallTest, ...]:
    """Calls of `SELF_CHECK` that must be answered True at a level."""
    names = CHECKS if level == "full" else CHECKS[:1]
    return tuple(CallTest((name,), True) for name in names)


def judge_self_check(level: str, result: Result) -> None:
    """Refuse to go on when a box does not hold.

    Raises:
        IsolationUnavailable: Something is in reach that must not be.
        SandboxError: The check itself did not run.
    """
    names = CHECKS if level == "full" else CHECKS[:1]
    if result.verdict is Verdict.passed:
        return
    open_doors = [
        name for name, cell in zip(names, result.cells, strict=False) if cell.verdict is Verdict.wrong_answer
    ]
    if open_doors:
        raise IsolationUnavailable(
            f"level {level!r} does not hold on this machine: a test program reached {', '.join(open_doors)}"
        )
    raise SandboxError(f"the check at start failed: {result.verdict} {result.cause} {result.message}")
