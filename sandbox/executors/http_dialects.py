"""What the HTTP client says to a service and how it reads the answers: our own form, and SandboxFusion's.

A conversation is a generator: it yields calls, is sent their answers, and settles its entries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from ..limits import Limits
from ..matrix import MatrixJob
from ..program import CodeTest, Program
from ..timing import TimingJob
from ..verdict import CellResult, Isolation, Result, SandboxError, Verdict, VerdictTrust, clean_text
from . import fusion, fusion_calls, wire
from .orders import Entry, Execution, Order, Script


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    body: bytes | None = None


Conversation = Generator[Call, Any, None]


class Dialect(Protocol):
    """A way to talk to a service.

    Attributes:
        health: Path that says whether a service is up; empty where there is none.
    """

    health: str

    def base(self, url: str) -> str:
        """The URL without the path of the dialect."""

    def info_call(self) -> Call:
        """Asks what the service is."""

    def describe(self, info: Any, connections: int) -> tuple[Isolation, str, int]:
        """Isolation, environment and workers, from the answer."""

    def pack(self, order: Order) -> Any:
        """The order as it is sent.

        Raises:
            ValueError: The dialect cannot say it.
        """

    def groups(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Entries that share a conversation."""

    def converse(self, entries: Sequence[Entry]) -> Conversation:
        """Have entries done."""


class Codealign:
    """Our own form: batches of programs, all kinds of work."""

    health = "/health"

    def base(self, url: str) -> str:
        """As it is."""
        return url

    def info_call(self) -> Call:
        """`/v1/info`."""
        return Call("GET", "/v1/info")

    def describe(self, info: Any, connections: int) -> tuple[Isolation, str, int]:
        """From `/v1/info`."""
        if not isinstance(info, dict) or "isolation" not in info:
            raise SandboxError(f"not a sandbox service: {str(info)[:200]}")
        wire.check_version(info)
        isolation = wire.from_json(Isolation, info["isolation"])
        return isolation, str(info.get("environment", "")), int(info.get("workers", connections))

    def pack(self, order: Order) -> Any:
        """JSON data."""
        return wire.to_json(order.work)

    def groups(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Programs that are run in the same way together, all else alone."""

        def way(entry: Entry) -> object:
            return entry.order.all_tests if isinstance(entry.order.work, Program) else entry

        for _, found in groupby(entries, way):
            yield list(found)

    def converse(self, entries: Sequence[Entry]) -> Conversation:
        """One request."""
        work = entries[0].order.work
        if not isinstance(work, Program):
            path, name = _PLACES[type(work)]
            answer = yield Call("POST", path, wire.dumps({"version": wire.VERSION, name: entries[0].packed}))
            entries[0].answer(wire.answer_from_json(_part(answer, "answer")))
            return
        packed = [entry.packed for entry in entries]
        request = {"version": wire.VERSION, "all_tests": entries[0].order.all_tests, "programs": packed}
        answers = _part((yield Call("POST", "/v1/run", wire.dumps(request))), "answers")
        if not isinstance(answers, list) or len(answers) != len(entries):
            raise SandboxError("the service answered another number of programs than it was asked for")
        for entry, answer in zip(entries, answers, strict=True):
            entry.answer(wire.answer_from_json(answer))


_PLACES: dict[type, tuple[str, str]] = {
    MatrixJob: ("/v1/matrix", "job"),
    TimingJob: ("/v1/time", "job"),
    Script: ("/v1/execute", "script"),
}


def _part(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise SandboxError(f"the service's answer has no {name!r}")
    wire.check_version(answer)
    return answer[name]


class SandboxFusion:
    """SandboxFusion's form: one `/run_code` a test; outputs are compared here, so that the service never sees
    an expected one.
    """

    health = ""

    def base(self, url: str) -> str:
        """Without `/run_code`."""
        return url.rstrip("/").removesuffix("/run_code")

    def info_call(self) -> Call:
        """Runs a small program."""
        body = {"code": "print(6 * 7)", "language": "python"}
        return Call("POST", "/run_code", json.dumps(body).encode())

    def describe(self, info: Any, connections: int) -> tuple[Isolation, str, int]:
        """SandboxFusion does not say what isolates its programs."""
        ran = fusion.execution(info)
        if ran.stdout.strip() != b"42":
            raise SandboxError(f"the service does not run Python as expected: {ran}")
        isolation = Isolation("remote", missing=("the service does not say",))
        return isolation, hashlib.sha256(b"sandboxfusion").hexdigest()[:16], connections

    def pack(self, order: Order) -> Any:
        """Nothing: each test is packed when its turn comes."""
        work = order.work
        if isinstance(work, MatrixJob | TimingJob):
            raise ValueError(f"SandboxFusion runs no {type(work).__name__}: use a codealign service")
        if isinstance(work, Program):
            for test in work.tests:
                fusion_calls.check(test, work.language)
        return None

    def groups(self, entries: Sequence[Entry]) -> Iterator[list[Entry]]:
        """Each alone."""
        return ([entry] for entry in entries)

    def converse(self, entries: Sequence[Entry]) -> Conversation:
        """A request a test."""
        (entry,) = entries
        work = entry.order.work
        if isinstance(work, Script):
            entry.answer((yield from _execute(work)))
            return
        assert isinstance(work, Program)
        cells: list[CellResult] = []
        first: tuple[Verdict, str, str] | None = None
        seconds = 0.0
        trust: VerdictTrust = "isolated"
        for test in work.tests or (None,):
            ran = yield from _execute(fusion_calls.script(work, test))
            seconds += ran.seconds
            verdict, cause, text = fusion_calls.outcome(test, ran)
            if isinstance(test, CodeTest):
                trust = "forgeable"
            if test is not None:
                cells.append(CellResult(verdict, clean_text(cause, 100), 0.0))
            if verdict is not Verdict.passed:
                first = first or (verdict, cause, text)
                if not entry.order.all_tests:
                    break
        verdict, cause, text = first or (Verdict.passed, "", "")
        isolation = Isolation("remote", missing=("the service does not say",))
        limits = work.limits or Limits()
        entry.answer(
            Result(
                work.id,
                verdict,
                clean_text(cause, 100),
                clean_text(text),
                tuple(cells),
                0.0,
                seconds,
                isolation,
                limits,
                trust,
                ("run by SandboxFusion: times are wall times of the service",),
            )
        )


def _execute(script: Script) -> Generator[Call, Any, Execution]:
    answer = yield Call("POST", "/run_code", json.dumps(fusion.request(script)).encode())
    return fusion.execution(answer)


DIALECTS: dict[str, type[Codealign] | type[SandboxFusion]] = {
    "codealign": Codealign,
    "sandboxfusion": SandboxFusion,
}
