"""Java by OpenJDK."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..limits import Limits
from . import register
from .base import ENVIRONMENT, Box, Examples, Language, Step, Toolchain

_OVERHEAD_MB = 400  # what the JVM needs outside the heap: classes, code, stacks of its threads
_RESERVED_MB = 4096
_LEAN = ("-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto")
_NOISE = re.compile(r"//[^\n]*|/\*.*?\*/|\"\"\".*?\"\"\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'", re.S)
_TYPE = re.compile(
    r"(?P<public>\bpublic\s+)?(?:\b(?:abstract|final|sealed|strictfp)\s+)*\b(?:class|interface|enum|record)\s+(?P<name>[A-Za-z_$][\w$]*)|(?P<main>\bstatic\s+(?:final\s+)?void\s+main\s*\()|(?P<open>\{)|(?P<close>\})"
)
_PACKAGE = re.compile(r"^\s*package\s+([\w$.]+)\s*;")


def class_names(source: str) -> tuple[str, str]:
    """The class that gives the file its name, and the class whose `main` runs, with its package.

    Java wants the file named after its public class. Without one the file is named after the class with
    `main`, and without any class `Main`.
    """
    text = _NOISE.sub(" ", source)
    package = _PACKAGE.match(text)
    depth, current, public, main, first = 0, "", "", "", ""
    for found in _TYPE.finditer(text):
        if found["open"]:
            depth += 1
        elif found["close"]:
            depth -= 1
        elif found["name"] and depth == 0:
            current = found["name"]
            first = first or current
            public = public or (current if found["public"] else "")
        elif found["main"] and depth == 1:
            main = main or current
    file = public or main or first or "Main"
    runs = main or file
    return file, f"{package[1]}.{runs}" if package else runs


@register
class Java(Language):
    """A program of one file."""

    name = "java"
    commands = ("javac", "java")
    minimum = (11,)
    remedy = "install a JDK, 11 or later (Debian and Ubuntu: apt install openjdk-17-jdk-headless)"
    names = (".class",)
    memory_marks = ("java.lang.OutOfMemoryError", "insufficient memory for the Java Runtime")
    note = "memory is bounded by the heap limit of the runtime and by private memory that can be written"
    assertion_marks = ("java.lang.AssertionError",)
    cause_pattern = r"(?m)^Exception in thread \"[^\"\n]*\" (?:[\w$]+\.)*([\w$]+)"
    examples = Examples(
        double="import java.util.*;\npublic class Double {\n  public static void main(String[] a) {\n"
        "    System.out.println(2 * new Scanner(System.in).nextLong());\n  }\n}",
        broken="class Main { public static void main(String[] a) { undefined(); } }",
    )

    def paths(self, programs: Mapping[str, str]) -> Iterable[str]:
        """The JDK's home, and where its configuration really lies."""
        home = _home(programs)
        yield str(home)
        for path in (home / "conf").rglob("*"):
            if path.is_symlink():
                yield str(path.resolve().parent)

    def file_name(self, source: str) -> str:
        """After the public class."""
        return f"{class_names(source)[0]}.java"

    def compile_step(self, tools: Toolchain, source: str) -> Step:
        """Without annotation processors."""
        machine = (*(f"-J{flag}" for flag in (*_LEAN, "-XX:TieredStopAtLevel=1", "-Xmx768m")),)
        argv = (tools.programs["javac"], *machine, "-proc:none", "-nowarn", "-encoding", "UTF-8", "-d", ".")
        box = Box(tools.paths, work_mb=64)
        bounds = (("data", 768 + _OVERHEAD_MB), ("address space", 768 + _RESERVED_MB))
        return Step((*argv, self.file_name(source)), box, bounds, _environment(tools), file_mb=32)

    def run_step(self, tools: Toolchain, source: str, limits: Limits) -> Step:
        """The heap's limit is the JVM's own; memory outside the heap is bounded by the kernel."""
        memory = int(limits.memory_mb)
        argv = (
            tools.programs["java"], *_LEAN, f"-Xmx{memory}m", "-Xss16m", "-XX:-UseContainerSupport",
            "-XX:CompressedClassSpaceSize=128m", "-XX:ReservedCodeCacheSize=64m", "-ea", "-cp", ".",
            class_names(source)[1],
        )  # fmt: skip
        bounds = (("data", memory + _OVERHEAD_MB), ("address space", memory + _RESERVED_MB))
        return Step(argv, Box(tools.paths), bounds, _environment(tools))


def _environment(tools: Toolchain) -> dict[str, str]:
    # The loader finds libraries that lie beside a program by /proc, which the box does not have.
    return {**ENVIRONMENT, "LD_LIBRARY_PATH": f"{_home(tools.programs)}/lib"}


def _home(programs: Mapping[str, str]) -> Path:
    return Path(programs["java"]).parent.parent
