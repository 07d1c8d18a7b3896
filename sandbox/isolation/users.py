"""A user of its own for every zygote, where there is no user namespace and the caller is root."""

from __future__ import annotations

import os

_FIRST = 0x60000000  # far above those that are given to people, services and containers
_STEP = 256


def spare(number: int) -> int:
    """A uid that nobody has: by the nursery's own number, and the number of its zygote."""
    return _FIRST + (os.getpid() % 2**20) * _STEP + number % _STEP


def problem() -> str:
    """Why a spare user cannot be had, "" if it can: tried in a process of its own."""
    if os.geteuid() != 0:
        return "not root, so programs run as the caller's own user"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            uid = spare(0)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            code = 2
            with open(os.__file__, "rb"):
                code = 0
        except OSError:
            pass
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status == 0:
        return ""
    if os.waitstatus_to_exitcode(status) == 2:
        return f"other users cannot read this interpreter, {os.__file__}"
    return "this root has no other users (it is that of a user namespace)"
