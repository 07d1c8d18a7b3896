"""C++, and what it shares with C: GCC in one box, the program in another that holds only libraries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from . import register, store
from .base import Box, Examples, Language, Step, Toolchain, ask

_HEADER = "bits/stdc++.h"
_PLACE = "/precompiled"


class Gcc(Language):
    """Common parts."""

    minimum = (9,)
    remedy = "install GCC (Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++)"
    flags: tuple[str, ...] = ()
    kind = ""
    memory_marks = (
        "std::bad_alloc",
        "virtual memory exhausted",
        "out of memory",
        "cannot allocate memory",
        "Killed signal terminated program",
    )
    assertion_marks = ("Assertion `",)

    def paths(self, programs: Mapping[str, str]) -> Iterable[str]:
        """Driver, compiler proper, assembler, linker, headers; as GCC itself names them."""
        gcc = next(iter(programs.values()))
        yield gcc
        for tool in ("as", "ld"):
            found = ask(gcc, f"-print-prog-name={tool}").strip()
            yield found if "/" in found else f"/usr/bin/{found}"
        yield ask(gcc, "-print-libgcc-file-name").strip().rpartition("/")[0]
        yield (
            ask(gcc, f"-print-prog-name={'cc1plus' if self.kind == 'c++' else 'cc1'}")
            .strip()
            .rpartition("/")[0]
        )
        lines = ask(gcc, "-E", "-v", "-x", self.kind, "/dev/null").splitlines()
        yield from (line.strip() for line in lines if line.startswith(" /"))

    def compile_step(self, tools: Toolchain, source: str) -> Step:
        """One call of the driver, which makes processes for compiler, assembler and linker."""
        argv = (tools.programs[self.commands[0]], *self.flags, "-o", "program", f"main{self.suffix}", "-lm")
        return Step(argv, Box(tools.paths, work_mb=128), (("address space", 2048),), forks=True, file_mb=64)


@register
class Cpp(Gcc):
    """C++17 with GNU extensions, as judges have it."""

    name = "cpp"
    aliases = ("c++", "cxx", "cc", "g++")
    commands = ("g++",)
    flags = ("-std=gnu++17", "-O2", "-pipe", "-fmax-errors=20")
    suffix = ".cpp"
    kind = "c++"
    examples = Examples(
        double="#include <iostream>\nint main() { long n; std::cin >> n; std::cout << 2 * n << std::endl; }",
        broken="int main() { return undefined_name; }",
    )

    def preparation(self, source: str) -> tuple[dict[str, Any], str] | None:
        """The precompiled header, made in the box of compilers from the compiler's own header."""
        if _HEADER not in source:
            return None
        tools = self.toolchain()
        folder = store.folder("gcc", tools.version, self.flags)
        if folder is None or store.complete(folder):
            return None
        argv = (tools.programs["g++"], *self.flags, "-x", "c++-header", "-o", "stdc++.h.gch", "main.hpp")
        step = self.compile_step(tools, "")
        step = replace(step, argv=argv, box=replace(step.box, work_mb=256), file_mb=192)
        plan = self.wire(tools, "main.hpp", step, None, store=f"{folder}/bits")
        return {**plan, "names": ["stdc++.h.gch"]}, f"#include <{_HEADER}>\n"

    def compile_step(self, tools: Toolchain, source: str) -> Step:
        """With the precompiled header where the program asks for the header and there is one."""
        step = super().compile_step(tools, source)
        folder = store.folder("gcc", tools.version, self.flags) if _HEADER in source else None
        if folder is None or not store.complete(folder):
            return step
        box = replace(step.box, places=((folder, _PLACE),))
        return replace(step, argv=(step.argv[0], "-I", _PLACE, *step.argv[1:]), box=box)
