"""The caller's side of one job: turns the engine's messages into outcomes, comparing answers with expected
values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import judges
from .engine import wire
from .iotest import IOTest
from .program import CallTest, Test
from .verdict import CellResult, SandboxError, Verdict, clean_text

_PASSED = (Verdict.passed, "", "")
_WRONG = (Verdict.wrong_answer, "", "")


class Judge:
    """A test with what its comparison needs, worked out once however many programs it is used for."""

    __slots__ = ("_expected", "_io", "_value")

    def __init__(self, test: Test, value: Callable[[bytes], Any] | None = None) -> None:
        self._value = value
        if isinstance(test, CallTest):
            self._expected = test.judged
            if value is not None:  # other languages have no tuples
                self._expected = judges.Expected(_as_lists(test.expected), test.tolerance)
        elif isinstance(test, IOTest):
            self._io = test

    def printed(self, output: bytes) -> tuple[Verdict, str, str]:
        """Verdict, cause and text of what a program printed that ended well."""
        if self._value is not None:
            return self._called(output, self._value)
        difference = self._io.difference(output)
        return (Verdict.wrong_answer, "", difference) if difference else (Verdict.passed, "", "")

    @property
    def compares(self) -> bool:
        """Whether a program's output is compared here."""
        return self._value is not None or (hasattr(self, "_io") and self._io.checker != "custom")

    def _called(self, output: bytes, decode: Callable[[bytes], Any]) -> tuple[Verdict, str, str]:
        try:
            value = decode(output)
        except ValueError as error:
            return Verdict.wrong_answer, "not plain data", str(error)
        if self._expected.equals(value):
            return Verdict.passed, "", ""
        return Verdict.wrong_answer, "", ""

    def outcome(self, kind: int, body: bytes) -> tuple[Verdict, str, str]:
        """Verdict, cause and text of a solution's answer to a call."""
        if kind == wire.VALUE:
            if self._expected.matches(body):
                return _PASSED
            return _WRONG
        cause, text = wire.error(body)
        if kind == wire.REFUSED:
            return Verdict.wrong_answer, "not plain data", text
        return (Verdict.memory_limit if cause == "MemoryError" else Verdict.runtime_error), cause, text


class Job:
    """Outcomes of one program, in order of its tests."""

    def __init__(self, judges_of_tests: list[Judge], stop_at_failure: bool) -> None:
        self._judges = judges_of_tests
        self._stop = stop_at_failure
        self.cells: list[CellResult] = []
        self.failure: tuple[Verdict, str, str] | None = None  # of the first failing test, or of loading
        self.load_failed: CellResult | None = None
        self.decided = False  # all that is wanted is known, though the engine may still be at work
        self.done = False
        self.infra = ""
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0

    def __call__(self, message: tuple[Any, ...]) -> None:
        """Take one message of the engine."""
        kind = message[0]
        if kind == "calls":
            _, _, start, answers, seconds = message
            for judge, (answer, body) in zip(self._judges[start:], answers, strict=False):
                self._add(judge.outcome(answer, body), seconds)
        elif kind == "cell":
            _, _, _, verdict, cause, text, seconds = message
            self._add((Verdict(verdict), cause, text), seconds)
        elif kind == "output":
            self._output(*message[2:])
        elif kind == "load":
            self.failure = self.failure or (Verdict(message[2]), message[3], message[4])
            self.load_failed = CellResult(Verdict(message[2]), clean_text(message[3], 100), 0.0)
        elif kind == "done":
            self.done = self.decided = True
            self.cpu_seconds, self.wall_seconds = message[2], message[3]
        elif kind == "cancelled":
            self.done = self.decided = True
        elif kind == "infra":
            self.done = self.decided = True
            self.infra = message[2]

    def _output(
        self, place: int, verdict: str, cause: str, text: str, output: bytes, seconds: float, score: float
    ) -> None:
        outcome = (Verdict(verdict), cause, text)
        if verdict == "passed" and score < 0 and self._judges[place].compares:
            outcome = self._judges[place].printed(output)
        self._add(outcome, seconds, score if score >= 0 else None)

    def _add(self, outcome: tuple[Verdict, str, str], seconds: float, score: float | None = None) -> None:
        if self._stop and self.failure is not None:
            return
        verdict, cause, _ = outcome
        self.cells.append(CellResult(verdict, cause and clean_text(cause, 100), seconds, score))
        if verdict is not Verdict.passed and self.failure is None:
            self.failure = outcome
            self.decided = self._stop

    def check(self, name: str) -> None:
        """Raise when the engine could not do this job.

        Raises:
            SandboxError: It failed repeatedly; that says nothing about the program.
        """
        if self.infra:
            raise SandboxError(f"program {name!r} could not be run after several tries: {self.infra}")


def _as_lists(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_as_lists(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return value
