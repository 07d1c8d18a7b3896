"""Orders to the engine for programs on stdin/stdout and of other languages."""

from __future__ import annotations

import contextlib
import marshal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cells import Job, Judge
from .client import Client
from .engine.command import APPENDED, IO_TEST
from .iotest import IOTest
from .limits import Limits
from .program import CallTest, CodeTest, Program, Test
from .verdict import VerdictTrust

if TYPE_CHECKING:
    from .languages import Language

LEVELS = ("full", "process")
_tried: set[str] = set()


def whole(tests: Sequence[Test], language: str) -> bool:
    """Whether programs run as a whole, not by calls of their functions."""
    return language != "python" or any(isinstance(test, IOTest) for test in tests)


def trust(program: Program) -> VerdictTrust:
    """Whether a test shared the program's process."""
    shared = any(isinstance(test, CodeTest) and test.in_process for test in program.tests)
    return "forgeable" if shared else "isolated"


def command(program: Program, number: int, limits: Limits, all_tests: bool, level: str) -> tuple[Any, ...]:
    """The order that runs a program as a whole.

    Raises:
        LanguageUnavailable: The toolchain is missing, or this level allows no exec.
    """
    from . import languages

    language = languages.get(program.language)
    if language.name != "python" and level not in LEVELS:
        raise languages.LanguageUnavailable(
            f"programs in {language.name} run at the levels {' and '.join(LEVELS)} only, the sandbox has "
            f"{level!r}: its filter of system calls refuses exec"
        )
    text = program.source
    if language.calls is not None and any(isinstance(test, CallTest) for test in program.tests):
        text = language.calls.source(text, program.entry_point)
    tests = [_wire(test, language) for test in program.tests]
    source = text.encode("utf-8", "surrogatepass")
    return ("command", number, tests, source, language.plan(text, limits), limits.wire(), all_tests)


def notes(program: Program) -> tuple[str, ...]:
    """What a reader of the result should know of the language."""
    from . import languages

    note = "" if program.language == "python" else languages.get(program.language).note
    return (note,) if note else ()


def judges(program: Program) -> list[Judge]:
    """What compares the outcomes of a program's tests."""
    from . import languages

    calls = None if program.language == "python" else languages.get(program.language).calls
    decode = None if calls is None else calls.value
    return [Judge(test, decode if isinstance(test, CallTest) else None) for test in program.tests]


def prepare(client: Client, program: Program, level: str) -> None:
    """Have made what programs of this kind need, if it is missing; takes seconds, once a machine.

    Raises:
        SandboxError: The engine failed. That nothing could be made is no error: programs compile without.
    """
    from .languages import get, store

    if level not in LEVELS or program.language == "python":
        return
    language = get(program.language)
    found = language.preparation(program.source)
    if found is None or found[0]["store"] in _tried:
        return
    plan, source = found
    _tried.add(plan["store"])
    with contextlib.suppress(store.NotMade), store.making(str(Path(plan["store"]).parent)) as ours:
        if ours:
            _make(client, plan, source)


def _make(client: Client, plan: dict[str, Any], source: str) -> None:
    from .languages import store

    job = Job([], True)
    number = client.number(job)
    client.send(("command", number, [], source.encode(), plan, Limits().wire(), True))
    while not job.done:
        client.pump(0.2)
    client.forget(number)
    if job.infra or job.failure is not None:
        raise store.NotMade(job.infra or str(job.failure))


def _wire(test: Test, language: Language) -> tuple[int, bytes]:
    if isinstance(test, CallTest) and language.calls is not None:
        return (IO_TEST, marshal.dumps((language.calls.input(test.args), (), None)))
    kind, body = test.wire()
    return (APPENDED, body) if isinstance(test, CodeTest) else (kind, body)
