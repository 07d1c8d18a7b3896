"""What a language is: how its toolchain is found, its programs compiled and run, and their memory limited.

A language is one small class, registered by a decorator (see `sandbox.languages`). It says *what* to run;
boxes, clocks and verdicts are the engine's.
"""

from __future__ import annotations

import functools
import marshal
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..isolation import namespaces
from ..limits import Limits
from ..verdict import SandboxError

MIB = 2**20
COMPILE_LIMITS = Limits(cpu_seconds=20, wall_seconds=60, memory_mb=2048, output_kb=256)
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}
_PROBE_SECONDS = 30
_OVERHEAD_MB = 16  # code, libraries and the first stack of an empty compiled program


class LanguageUnavailable(SandboxError):
    """The toolchain of a language is missing, too old, or cannot run at this level of isolation; the text
    says which and how to get it. Never a statement about a program.
    """


@dataclass(frozen=True, slots=True)
class Box:
    """What the box of a command holds.

    Attributes:
        paths: Files and directories of this machine, to be seen read-only in the same place. None within
            another.
        places: Directories that are to be seen in another place, as (path, place).
        work_mb: Size of its work directory.
        execute: Whether files in the work directory may be run.
    """

    paths: tuple[str, ...]
    places: tuple[tuple[str, str], ...] = ()
    work_mb: int = 48
    execute: bool = False

    def wire(self) -> bytes:
        """As the nursery reads it."""
        work = f"size={self.work_mb}m,nr_inodes=4096,mode=1777"
        paths = [*((path, path) for path in self.paths), *self.places]
        return marshal.dumps({"paths": paths, "work": work, "execute": self.execute})


@dataclass(frozen=True, slots=True)
class Step:
    """One command.

    Attributes:
        argv: Program, by its whole path or as `./name`, and arguments.
        box: Where it runs.
        memory: Bounds as (kind, MiB). `address space` is right where memory is asked for as it is used;
            the JVM and V8 reserve gigabytes, for them `data` counts private memory that can be written.
        environment: All of it.
        forks: Whether it may make processes; if not, only threads.
        file_mb: Largest file it may write.
        limits: For a compile step; a run has those of its test.
    """

    argv: tuple[str, ...]
    box: Box
    memory: tuple[tuple[str, int], ...]
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    forks: bool = False
    file_mb: int = 8
    limits: Limits = COMPILE_LIMITS

    def wire(self) -> dict[str, Any]:
        """As the engine reads it."""
        return {
            "argv": list(self.argv),
            "box": self.box.wire(),
            "memory": [(kind, mib * MIB) for kind, mib in self.memory],
            "environment": dict(self.environment),
            "forks": self.forks,
            "file_bytes": self.file_mb * MIB,
            "limits": self.limits.wire(),
        }


@dataclass(frozen=True)
class Toolchain:
    """What was found on this machine.

    Attributes:
        version: First line of what the compiler or interpreter says of itself.
        programs: Name to whole path.
        paths: What has to be seen in the box.
    """

    version: str
    programs: Mapping[str, str]
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examples:
    """Programs by which a language proves that it works; `codealign doctor` and the tests run them.

    Attributes:
        double: Reads an integer and prints twice its value.
        broken: Does not compile; for interpreters, does not parse.
    """

    double: str
    broken: str


class Calls(Protocol):
    """How functions of a language are called: by a driver behind the program, with data on its streams."""

    def source(self, source: str, entry_point: str) -> str:
        """The program with a driver that makes one call and prints its value."""

    def input(self, args: tuple[Any, ...]) -> bytes:
        """Arguments of a call as the driver reads them.

        Raises:
            ValueError: The language has nothing like an argument.
        """

    def value(self, output: bytes) -> Any:
        """Value of a call, from what the driver printed.

        Raises:
            ValueError: It is no plain data.
        """


class Language:
    """A language; subclasses fill in what is theirs.

    Attributes:
        name: As in `Program.language`.
        aliases: Other names for it.
        commands: Programs that must be on the PATH.
        minimum: Least version, as numbers.
        remedy: How to get the toolchain.
        names: Endings or names of the files that compiling makes.
        memory_marks: Parts of the error text that tell that memory was short.
        assertion_marks: Parts of the error text that tell that an assertion failed.
        syntax_marks: Parts of the error text that tell that an interpreter could not parse the program.
        cause_pattern: Regular expression that finds an exception's type in the error text, as its one group.
        suffix: Ending of the source file's name.
        calls: How `CallTest`s are run; None where they cannot be.
        note: What a reader of results should know.
    """

    name = ""
    aliases: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    minimum: tuple[int, ...] = ()
    remedy = ""
    names: tuple[str, ...] = ("program",)
    memory_marks: tuple[str, ...] = ()
    assertion_marks: tuple[str, ...] = ()
    syntax_marks: tuple[str, ...] = ()
    cause_pattern = ""
    suffix = ""
    calls: Calls | None = None
    note = ""
    examples: Examples

    def toolchain(self) -> Toolchain:
        """Compilers and interpreters of this machine, looked for once.

        Raises:
            LanguageUnavailable: One is missing or too old.
        """
        return _toolchain(self)

    def paths(self, programs: Mapping[str, str]) -> Iterable[str]:
        """Files and directories that the box must hold besides shared libraries."""
        return programs.values()

    def file_name(self, source: str) -> str:
        """Name of the source file."""
        return f"main{self.suffix}"

    def compile_step(self, tools: Toolchain, source: str) -> Step | None:
        """How to compile; None for interpreters."""
        return None

    def run_step(self, tools: Toolchain, source: str, limits: Limits) -> Step:
        """How to run: here the compiled program, with shared libraries and nothing else of this machine."""
        box = Box(bind_paths(library_paths()), execute=True)
        return Step(("./program",), box, (("address space", int(limits.memory_mb) + _OVERHEAD_MB),))

    def preparation(self, source: str) -> tuple[dict[str, Any], str] | None:
        """A plan with a place to store what it makes, and its source: made once, before a program of this
        kind is compiled for the first time. None when there is nothing to make.
        """
        return None

    def plan(self, source: str, limits: Limits) -> dict[str, Any] | None:
        """All that the engine needs to know, as plain data.

        Raises:
            LanguageUnavailable: The toolchain is missing.
        """
        tools = self.toolchain()
        compile_step = self.compile_step(tools, source)
        return self.wire(tools, self.file_name(source), compile_step, self.run_step(tools, source, limits))

    def wire(
        self, tools: Toolchain, file: str, compile_step: Step | None, run_step: Step | None, store: str = ""
    ) -> dict[str, Any]:
        """A plan as the engine reads it."""
        key = repr((self.name, tools.version, file, compile_step.argv if compile_step else ()))
        return {
            "file": file,
            "compile": compile_step.wire() if compile_step else None,
            "run": run_step.wire() if run_step else None,
            "key": key.encode("utf-8", "surrogatepass"),
            "names": list(self.names),
            "memory_marks": list(self.memory_marks),
            "assertion_marks": list(self.assertion_marks),
            "syntax_marks": list(self.syntax_marks),
            "cause_pattern": self.cause_pattern,
            "store": store,
        }


@functools.cache
def _toolchain(language: Language) -> Toolchain:
    programs = {}
    for command in language.commands:
        path = shutil.which(command)
        if path is None:
            raise LanguageUnavailable(
                f"language {language.name!r} needs {command!r}, which is not on the PATH: {language.remedy}"
            )
        programs[command] = os.path.realpath(path)
    first = programs[language.commands[0]]
    version = ask(first, "--version").splitlines()[0].strip()
    numbers = tuple(int(n) for n in re.findall(r"\d+", version.rpartition(")")[2] or version)[:3])
    if numbers < language.minimum:
        wanted = ".".join(map(str, language.minimum))
        raise LanguageUnavailable(
            f"language {language.name!r} needs {language.commands[0]} {wanted} or later, this is "
            f"{version!r}: {language.remedy}"
        )
    return Toolchain(version, programs, bind_paths([*language.paths(programs), *library_paths()]))


def ask(program: str, *arguments: str) -> str:
    """What a program of the toolchain says, with its error text; "" never: no answer is an error.

    Raises:
        LanguageUnavailable: It does not run.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LanguageUnavailable(f"{program} does not run: {error}") from None
    text = done.stdout + done.stderr
    if not text.strip():
        raise LanguageUnavailable(f"{program} {' '.join(arguments)} said nothing (status {done.returncode})")
    return text


def library_paths() -> list[str]:
    """Shared libraries of this machine, and where programs look for their loader."""
    return [*namespaces.library_paths(), "/lib64"]


def bind_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that exist; directories resolved, and none that lies in another."""
    there = [Path(path) for path in paths if Path(path).exists()]
    found = {path.resolve() if path.is_dir() else path.absolute() for path in there}
    return tuple(str(path) for path in sorted(found) if not found.intersection(path.parents))
