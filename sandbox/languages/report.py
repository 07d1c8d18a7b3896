"""Which languages work on this machine, found out by running their own examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..verdict import SandboxError, Verdict

if TYPE_CHECKING:
    from ..pool import Sandbox


@dataclass(frozen=True, slots=True)
class Row:
    """One language."""

    name: str
    version: str
    works: bool
    detail: str
    remedy: str


def report(sandbox: Sandbox | None = None) -> tuple[Row, ...]:
    """Look for every toolchain and run its examples in a box; takes a few seconds, mostly of compilers.

    Args:
        sandbox: Where to run them; one is made for the purpose when absent.

    Raises:
        SandboxError: No sandbox can be had.
    """
    if sandbox is None:
        from ..pool import Sandbox

        with Sandbox(1) as made:
            return report(made)
    from . import names

    return tuple(_row(sandbox, name) for name in names())


def _row(sandbox: Sandbox, name: str) -> Row:
    from ..iotest import IOTest
    from ..program import Program
    from . import get

    language = get(name)
    try:
        version = language.toolchain().version
    except SandboxError as error:
        return Row(name, "", False, str(error), language.remedy)
    tests = (IOTest("21\n", "42\n"),)
    sources = (language.examples.double, language.examples.broken)
    programs = [Program(source, "", tests, language=name) for source in sources]
    try:
        right, broken = sandbox.run(programs)
    except SandboxError as error:
        return Row(name, version, False, str(error), language.remedy)
    if right.verdict is Verdict.passed and broken.verdict in (Verdict.syntax_error, Verdict.runtime_error):
        return Row(name, version, True, "", "")
    wrong = right if right.verdict is not Verdict.passed else broken
    return Row(
        name,
        version,
        False,
        f"its example ended with {wrong.verdict} {wrong.cause}: {wrong.message}",
        language.remedy,
    )
