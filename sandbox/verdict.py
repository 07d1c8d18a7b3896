"""What happened to a program: values. What broke in the engine: exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
class CellResult:
    """One test of one program.

    Attributes:
        verdict: What happened. cause: Empty when passed; else the exception's type, the signal's name, or a
        short phrase. An exception of the
            test itself (not raised by the program) is written `test:TypeName`.
        cpu_seconds: CPU time of the solution's process in this test (calls sent in one go share their time
        equally).
    """

    verdict: Verdict
    cause: str
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """One program.

    Attributes:
        id: The program's own `id`. verdict: `passed`, or that of the first failing test. cause: As in
        `CellResult`, of the first failing test. message: Error text of that test, bounded and free of
        control characters. cells: One entry a test that was run; shorter than the tests when the run
        stopped at the first failure. cpu_seconds: CPU time of all processes of the program. wall_seconds:
        Time from its start in a worker to its end. isolation: The level in force, `full` or `process`.
    """

    id: str
    verdict: Verdict
    cause: str
    message: str
    cells: tuple[CellResult, ...]
    cpu_seconds: float
    wall_seconds: float
    isolation: str


def clean_text(text: str, limit: int = 500) -> str:
    """Text of a program made harmless for logs and terminals: bounded, control characters and surrogates
    escaped.
    """
    short = text if len(text) <= limit else text[:limit] + "..."
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in short
    )
