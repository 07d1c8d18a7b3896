"""What happened to a program: values. What broke in the engine: exceptions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

from .limits import Limits

Level = Literal["full", "filter", "seccomp", "process", "none"]
VerdictTrust = Literal["isolated", "forgeable"]


class SandboxError(RuntimeError):
    """The engine itself failed, after retries. Never a statement about a program."""


class IsolationUnavailable(SandboxError):
    """This machine does not give the isolation that was required; the text says what is missing and how to
    get it.
    """


class Verdict(StrEnum):
    """What happened to a program, or to one test of it."""

    passed = "passed"
    wrong_answer = "wrong_answer"
    runtime_error = "runtime_error"
    syntax_error = "syntax_error"
    timeout = "timeout"
    memory_limit = "memory_limit"
    output_limit = "output_limit"
    violation = "violation"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was in force around a program; found out by doing when the sandbox started.

    Attributes:
        level: `full`, `filter`, `seccomp`, `process` or `none` (docs/sandbox.md says what each one holds).
        namespaces: Kinds of namespaces of its own, as `user`, `mount`, `pid`.
        seccomp: Whether system calls are filtered.
        landlock_abi: Version of Landlock in force; 0 for none.
        cgroup: `v1`, `v2`, or empty where no group of its own could be made.
        memory_limit_kind: `address space`, or `address space + cgroup`.
        missing: What the strongest level has and this one lacks.
    """

    level: str
    namespaces: tuple[str, ...] = ()
    seccomp: bool = False
    landlock_abi: int = 0
    cgroup: str = ""
    memory_limit_kind: str = "address space"
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class InfraError:
    """The engine could not run a program, after retries: no verdict, and never a reward.

    Attributes:
        id: The program's own `id`.
        message: What happened.
        tries: How often it was tried.
    """

    id: str
    message: str
    tries: int


@dataclass(frozen=True, slots=True)
class CellResult:
    """One test of one program.

    Attributes:
        verdict: What happened. cause: Empty when passed; else the exception's type, the signal's name, or a
        short phrase. An exception of the
            test itself (not raised by the program) is written `test:TypeName`.
        cpu_seconds: CPU time of the solution's process in this test (calls sent in one go share their time
        equally).
        score: What a custom checker of an `IOTest` gave, in [0, 1]; None where none ran.
    """

    verdict: Verdict
    cause: str
    cpu_seconds: float
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One program.

    Attributes:
        id: The program's own `id`.
        verdict: `passed`, or that of the first failing test.
        cause: As in `CellResult`, of the first failing test.
        message: Error text of that test, bounded and free of control characters.
        cells: One entry a test that was run; fewer than the tests when the run stopped at the first failure.
        cpu_seconds: CPU time of all processes of the program.
        wall_seconds: Time from its start in a worker to its end.
        isolation: What was in force.
        limits: Limits in force, after lowering to the hard ones.
        verdict_trust: `forgeable` when a test shared the program's process, which can then forge a pass.
        notes: What the reader should know, such as limits that were lowered.
    """

    id: str
    verdict: Verdict
    cause: str
    message: str
    cells: tuple[CellResult, ...]
    cpu_seconds: float
    wall_seconds: float
    isolation: Isolation
    limits: Limits
    verdict_trust: VerdictTrust = "isolated"
    notes: tuple[str, ...] = ()


def clean_text(text: str, limit: int = 500) -> str:
    """Text of a program made harmless for logs and terminals: bounded, control characters and surrogates
    escaped.
    """
    if text.isprintable() and len(text) <= limit:
        return text
    short = text if len(text) <= limit else text[:limit] + "..."
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in short
    )
