"""Calls whose values are wanted themselves, as those of a reference: no test, nothing is compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import codec, extras
from .cells import Judge
from .engine import wire
from .limits import Limits
from .program import CallTest, Program
from .verdict import Verdict


@dataclass(frozen=True, slots=True)
class CallJob:
    """A program and calls of its entry point.

    Attributes:
        source: A Python program.
        entry_point: The function to call, or `Class.method`.
        calls: Argument tuples, data as in `CallTest`. They are made in order, in one process as long as that
            lives.
        limits: Limits of each call; the sandbox's own when absent.
        stop: Make no more calls after one that failed; there are fewer answers then.
    """

    source: str
    entry_point: str
    calls: Sequence[tuple[Any, ...]]
    limits: Limits | None = None
    stop: bool = False

    def program(self) -> Program:
        """The job as the sandbox runs it."""
        tests = tuple(CallTest(call, None) for call in self.calls)
        return Program(self.source, self.entry_point, tests, limits=self.limits)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one call.

    Attributes:
        verdict: `passed` where it returned data.
        cause: As in `CellResult`; `not plain data` where it returned something that cannot cross.
        value: What it returned, rebuilt from plain data; None where it returned none.
        cpu_seconds: CPU time of its process in this call.
    """

    verdict: Verdict
    cause: str
    value: Any
    cpu_seconds: float

    @property
    def returned(self) -> bool:
        """Whether there is a value."""
        return self.verdict is Verdict.passed


class Keeper(Judge):
    """Takes any value for right, and keeps it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        super().__init__(CallTest((), None))
        self.value: Any = None

    def outcome(self, kind: int, body: bytes) -> tuple[Verdict, str, str]:
        """Verdict, cause and text; the value is kept."""
        if kind != wire.VALUE:
            return super().outcome(kind, body)
        try:
            self.value = codec.decode(body, extras.build)
        except codec.CodecError as error:
            return Verdict.wrong_answer, "not plain data", str(error)
        return Verdict.passed, "", ""
