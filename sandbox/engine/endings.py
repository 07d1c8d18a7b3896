"""From how a process ended to a verdict."""

from __future__ import annotations

from . import wire, zygote
from .nursing import Lost
from .session import Session

_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
Outcome = tuple[str, str, str]  # verdict, cause, text


MAX_TRIES = 3
MAX_TIMEOUTS = 3  # of a program, then it has had its chances


def raise_if_lost(found: Session, tries: int) -> None:
    """Give up on a process that ended by no doing of its program.

    A SIGKILL that was not ordered may come from outside (an administrator, the machine's want of memory) or
    be the program's own: the first time it is taken for the former.

    Args:
        found: What ended.
        tries: How often its job was lost before.

    Raises:
        Lost: It did.
    """
    if found.lost:
        raise Lost("a zygote ended while it ran a program")
    if not found.reason and ending(found)[1] == "SIGKILL" and tries == 0:
        raise Lost("a program's process was killed by nobody here")


def broken(body: bytes) -> Outcome:
    """Outcome of a program that did not load."""
    cause, text = wire.error(body[1:])
    if body[:1] == b"s":
        return ("syntax_error", cause, text)
    return ("memory_limit" if cause == "MemoryError" else "runtime_error", cause, text)


def ending(found: Session) -> Outcome:
    """Outcome of a process that ended before it answered: from why it was killed, else from its wait
    status.
    """
    if found.reason in ("cpu", "wall"):
        return ("timeout", found.reason, "")
    if found.reason == "output":
        return ("output_limit", "output", "")
    if found.reason == "violation":
        return ("violation", "protocol", "")
    signal = found.status & 0x7F
    if signal == 0:
        code = found.status >> 8
        if code == zygote.NO_MEMORY:
            return ("memory_limit", "MemoryError", "")
        return ("runtime_error", f"exit {code}", f"the process ended with exit code {code}")
    if signal == 24:
        return ("timeout", "cpu", "")
    if signal == 31:
        return ("violation", "SIGSYS", "a system call by a foreign convention")
    name = _SIGNALS.get(signal, f"signal {signal}")
    if found.out_of_memory or found.resident > 0.9 * found.memory:
        return ("memory_limit", name, "")
    return ("runtime_error", name, f"the process was ended by {name}")
