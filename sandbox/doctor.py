"""What this machine gives the sandbox: primitives tried one by one, then a few harmless attacks on a real
box.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .client import ENGINE_ENVIRONMENT, engine_command
from .isolation import levels
from .limits import Limits
from .pool import Sandbox
from .program import CallTest, CodeTest, Program
from .verdict import Result, SandboxError, Verdict, clean_text

_NEEDS = {
    "user_namespace": ("full", levels.REMEDIES["unshare"]),
    "all_namespaces": ("full", levels.REMEDIES["unshare"]),
    "seccomp": ("full", levels.REMEDIES["seccomp"]),
    "no_new_privs": ("full", "Linux 3.5 or later"),
    "rlimits": ("process", "the hard limits of this session are too low; see `ulimit -H -a`"),
    "process_limit": ("full", "without it a box holds off thread floods by its address space only"),
    "pidfd": ("process", "Linux 5.3 or later; a seccomp profile of the container may refuse pidfd_open"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One primitive, or one attack on a box."""

    name: str
    works: bool
    needed_for: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What works here.

    Attributes:
        primitives: What the kernel gives, tried one by one.
        attacks: Harmless attack programs on a box; `works` means that the box held.
        level: The strongest level that works, `full`, `process` or `none`.
        problem: Why `full` does not work; empty when it does.
    """

    primitives: tuple[Row, ...]
    attacks: tuple[Row, ...]
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
_REACH = (
    ("fork", "no new processes"),
    ("exec", "no other programs"),
    ("signal", "no signals to others"),
    ("network", "no network"),
    ("read", "no files of this machine"),
    ("write", "no writing outside its own /tmp"),
    ("environment", "no environment"),
)


def report() -> DoctorReport:
    """Try everything; takes about a second.

    Raises:
        SandboxError: Not even a separate process could be started.
    """
    primitives = _primitives()
    problem = ""
    try:
        with Sandbox(1, limits=Limits(cpu_seconds=0.3, wall_seconds=3.0, memory_mb=256)) as sandbox:
            attacks = _attacks(sandbox)
        level = "full" if all(row.works for row in attacks) else "none"
        if level == "none":
            problem = "a box did not hold: " + ", ".join(row.name for row in attacks if not row.works)
    except SandboxError as error:
        attacks, problem, level = (), str(error), _weaker()
    return DoctorReport(primitives, attacks, level, problem)


def _weaker() -> str:
    try:
        Sandbox(1, require="process").close()
    except SandboxError:
        return "none"
    return "process"


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
        name, _, failure = line.partition("\t")
        level, remedy = _NEEDS[name]
        rows.append(Row(name, not failure, level, clean_text(failure), "" if not failure else remedy))
    return tuple(rows)


def _attacks(sandbox: Sandbox) -> tuple[Row, ...]:
    programs = [Program(source, "f", tests, name) for name, source, tests, _ in _ATTACKS]
    rows = []
    for result, (name, _, _, held) in zip(sandbox.run(programs, all_tests=True), _ATTACKS, strict=True):
        rows.append(Row(name, held(result), "full", f"{result.verdict} {result.cause}".strip(), ""))
    tests = tuple(CallTest((what,), True) for what, _ in _REACH)
    (result,) = sandbox.run([Program(levels.self_check(), "reach", tests)], all_tests=True)
    for cell, (_, name) in zip(result.cells, _REACH, strict=True):
        rows.append(Row(name, cell.verdict is Verdict.passed, "full", cell.cause, ""))
    return tuple(rows)


def render(found: DoctorReport) -> str:
    """The report as plain text."""
    lines = ["Kernel primitives (tried one by one)"]
    for row in found.primitives:
        mark = "yes" if row.works else "NO "
        lines.append(f"  {mark}  {row.name:16}  needed for {row.needed_for:8} {row.detail}".rstrip())
        if row.remedy:
            lines.append(f"       how to get it: {row.remedy}")
    if found.attacks:
        lines += ["", "Attacks on a box"]
        lines += [
            f"  {'held' if row.works else 'OPEN'}  {row.name:32} {row.detail}".rstrip()
            for row in found.attacks
        ]
    lines += ["", f"Isolation level available: {found.level}"]
    if found.problem:
        lines.append(f"Why not full: {found.problem}")
    return "\n".join(lines)
