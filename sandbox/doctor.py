"""What this machine gives the sandbox: primitives one by one, then every level under harmless attacks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .client import ENGINE_ENVIRONMENT, engine_command
from .isolation import levels
from .limits import Limits
from .pool import Sandbox, Trial
from .program import CallTest, CodeTest, Program
from .verdict import Isolation, Result, SandboxError, Verdict, clean_text

_NEEDS = {
    "user_namespace": ("full", levels.REMEDIES["unshare"]),
    "all_namespaces": ("full", levels.REMEDIES["unshare"]),
    "seccomp": ("full, filter, seccomp", levels.REMEDIES["seccomp"]),
    "no_new_privs": ("full, filter, seccomp", "Linux 3.5 or later"),
    "landlock": ("filter; more for full", levels.REMEDIES["landlock"]),
    "cgroup": ("more for every level", levels.REMEDIES["cgroup"]),
    "rlimits": ("all but none", "the hard limits of this session are too low; see `ulimit -H -a`"),
    "process_limit": ("full", "without it a box holds off thread floods by its address space only"),
    "pidfd": ("all", "Linux 5.3 or later; a seccomp profile of the container may refuse pidfd_open"),
    "instruction_counter": (
        "steadier timing",
        "a processor that counts for this (virtual) machine, and kernel.perf_event_paranoid at 2 or less",
    ),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was tried.

    Attributes:
        name: What it is.
        works: Whether it does; of an attack: whether the level held.
        needed_for: Levels that need it, or what it is good for.
        detail: What was found.
        remedy: How to get it, where it does not work.
    """

    name: str
    works: bool
    needed_for: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level.

    Attributes:
        name: Its name.
        holds: What it is, in a few words.
        works: Whether it starts and keeps what it promises.
        isolation: What is in force; None when it does not start.
        problem: Why it does not work; empty when it does.
        remedy: How to get it, where that can be said.
        attacks: Harmless attacks on it. A weaker level leaves some doors open: that is no fault of it.
    """

    name: str
    holds: str
    works: bool
    isolation: Isolation | None
    problem: str
    remedy: str
    attacks: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What works here.

    Attributes:
        primitives: What the kernel gives, tried one by one.
        levels: Every level, strongest first.
        languages: Toolchains of other languages.
        level: The strongest level that works; `none` when not even a process can be started.
        problem: Why `full` does not work; empty when it does.
    """

    primitives: tuple[Row, ...]
    levels: tuple[LevelReport, ...]
    languages: tuple[Row, ...]
    level: str
    problem: str

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


_SQUARE = (CallTest((3,), 9),)
_Judge = Callable[[Result], bool]


def _verdict(*allowed: Verdict) -> _Judge:
    return lambda result: result.verdict in allowed


_PASSED = _verdict(Verdict.passed)
_ATTACKS: tuple[tuple[str, str, tuple[CallTest | CodeTest, ...], _Judge], ...] = (
    ("a right program passes", "def f(n): return n * n", _SQUARE, _PASSED),
    ("a wrong program fails", "def f(n): return n", _SQUARE, _verdict(Verdict.wrong_answer)),
    (
        "exit status 0 proves nothing",
        "import os\ndef f(n): os._exit(0)",
        _SQUARE,
        _verdict(Verdict.runtime_error),
    ),
    (
        "a lying object proves nothing",
        "class A:\n    def __eq__(self, o): return True\ndef f(n): return A()",
        (*_SQUARE, CodeTest("def check(candidate):\n    assert candidate(3) == 9")),
        lambda result: all(cell.verdict is not Verdict.passed for cell in result.cells),
    ),
    ("an endless loop is ended", "def f(n):\n    while True: pass", _SQUARE, _verdict(Verdict.timeout)),
    ("memory is bounded", "def f(n): return len(bytearray(10**10))", _SQUARE, _verdict(Verdict.memory_limit)),
    (
        "output is bounded",
        "def f(n):\n    while True: print('x' * 9999)",
        _SQUARE,
        _verdict(Verdict.output_limit),
    ),
)
_EVERYWHERE = tuple(name for name in levels.DOORS if name not in ("limits", "modes", "change"))
_TINY = Limits(cpu_seconds=0.3, wall_seconds=3.0, memory_mb=256)


def report() -> DoctorReport:
    """Try everything; takes a few seconds.

    Raises:
        SandboxError: The engine's interpreter cannot even be started.
    """
    primitives = _primitives()
    found = tuple(_level(name) for name in levels.LEVELS)
    level = next((row.name for row in found if row.works), "none")
    return DoctorReport(primitives, found, _languages(), level, found[0].problem)


def _level(name: str) -> LevelReport:
    holds = levels.HOLDS[name]
    try:
        with Trial(1, require=name, limits=_TINY) as sandbox:
            attacks = _attacks(sandbox, name)
            isolation = sandbox.isolation
    except SandboxError as error:
        problem = str(error)
        return LevelReport(name, holds, False, None, problem, levels.remedy(problem), ())
    failed = [row.name for row in attacks if row.needed_for and not row.works]
    problem = f"it did not hold: {', '.join(failed)}" if failed else ""
    return LevelReport(name, holds, not failed, isolation, problem, "", attacks)


def _languages() -> tuple[Row, ...]:
    """Toolchains of other languages, by running their own examples; none where no box can be had."""
    from .languages import report as try_all

    try:
        found = try_all()
    except SandboxError:
        return ()
    return tuple(
        Row(
            row.name,
            row.works,
            f"programs in {row.name}",
            row.detail or row.version,
            row.remedy if not row.works else "",
        )
        for row in found
    )


def _primitives() -> tuple[Row, ...]:
    done = subprocess.run(
        engine_command("probe"),
        capture_output=True,
        text=True,
        env=ENGINE_ENVIRONMENT,
        cwd="/",
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise SandboxError(f"the probe did not run: {clean_text(done.stderr)}")
    rows = []
    for line in done.stdout.splitlines():
        name, works, detail = line.split("\t")
        use, remedy = _NEEDS[name]
        rows.append(Row(name, works == "yes", use, clean_text(detail), "" if works == "yes" else remedy))
    return tuple(rows)


def _attacks(sandbox: Sandbox, level: str) -> tuple[Row, ...]:
    """Attacks that must be held have the level's name in `needed_for`."""
    programs = [Program(source, "f", tests, name) for name, source, tests, _ in _ATTACKS]
    rows = []
    for result, (name, _, _, held) in zip(sandbox.run(programs, all_tests=True), _ATTACKS, strict=True):
        promised = "" if level == "none" and name == "memory is bounded" else level
        rows.append(Row(name, held(result), promised, f"{result.verdict} {result.cause}".strip(), ""))
    tests = tuple(CallTest((what,), True) for what in _EVERYWHERE)
    (result,) = sandbox.run([Program(levels.self_check(), "reach", tests)], all_tests=True)
    for cell, what in zip(result.cells, _EVERYWHERE, strict=True):
        promised = level if what in levels.PROMISES[level] else ""
        rows.append(Row(levels.DOORS[what], cell.verdict is Verdict.passed, promised, cell.cause, ""))
    return tuple(rows)
