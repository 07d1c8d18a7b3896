"""From how a process ended to a verdict."""

from __future__ import annotations

from . import wire, zygote
from .session import Session
from .worker import Lost

_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
Outcome = tuple[str, str, str]  # verdict, cause, text


def raise_if_lost(found: Session) -> None:
    """Give up on a process that ended by no doing of its program.

    Raises:
        Lost: It did.
    """
    if found.lost:
        raise Lost("a zygote ended while it ran a program")


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
    if found.resident > 0.9 * found.memory:
        return ("memory_limit", name, "")
    return ("runtime_error", name, f"the process was ended by {name}")
