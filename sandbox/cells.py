"""The caller's side of one job: turns the engine's messages into outcomes, comparing answers with expected
values.
"""

from __future__ import annotations

from typing import Any

from . import judges
from .engine import wire
from .program import CallTest, Test
from .verdict import CellResult, SandboxError, Verdict, clean_text


class Judge:
    """A test with what its comparison needs, worked out once however many programs it is used for."""

    __slots__ = ("_expected", "_largest", "_tolerance")

    def __init__(self, test: Test) -> None:
        if isinstance(test, CallTest):
            self._expected, self._tolerance = test.expected, test.tolerance
            self._largest = judges.largest_hashed(test.expected)

    def outcome(self, kind: int, body: bytes) -> tuple[Verdict, str, str]:
        """Verdict, cause and text of a solution's answer to a call."""
        if kind == wire.VALUE:
            if judges.matches(body, self._expected, self._tolerance, self._largest):
                return Verdict.passed, "", ""
            return Verdict.wrong_answer, "", ""
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
            for offset, (answer, body) in enumerate(message[3]):
                outcome = self._judges[message[2] + offset].outcome(answer, body)
                self._add(outcome, message[4])
        elif kind == "cell":
            _, _, _, verdict, cause, text, seconds = message
            self._add((Verdict(verdict), cause, text), seconds)
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

    def _add(self, outcome: tuple[Verdict, str, str], seconds: float) -> None:
        if self._stop and self.failure is not None:
            return
        verdict, cause, _ = outcome
        self.cells.append(CellResult(verdict, clean_text(cause, 100), seconds))
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
