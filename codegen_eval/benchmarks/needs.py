"""Libraries beyond Python's own that a benchmark's tasks need.

Installed packages are hidden from programs but for those that `Sandbox(libraries=...)` names. A task that
needs one which is not named cannot be run: that must be said, never counted as a wrong answer.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator

from codegen_eval.extraction import parse_statements
from codegen_eval.records import Problem

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)[\w.]*[ \t]+import\b|import[ \t]+(\w[\w., \t]*))", re.M)


def missing_libraries(problem: Problem, libraries: Iterable[str] = ()) -> tuple[str, ...]:
    """What a problem needs (`meta["needs"]`) and the box does not show, sorted; empty where it can be run."""
    return tuple(sorted(set(problem.meta.get("needs", ())) - set(libraries)))


def third_party(names: Iterable[str]) -> tuple[str, ...]:
    """The top-level packages among module names that are not Python's own, sorted."""
    tops = {name.split(".")[0].strip() for name in names}
    return tuple(sorted(tops - set(sys.stdlib_module_names) - {""}))


def imported(*sources: str) -> tuple[str, ...]:
    """Packages that Python sources import anywhere in them, those of Python left out; sorted.

    Code that a source holds as text (DS-1000's `exec_context`) counts too: text with lines that are imports
    and the mark `[insert]`.
    """
    return third_party(name for source in sources for name in _modules(source))


def _modules(source: str) -> Iterator[str]:
    body = parse_statements(source)
    if body is None:
        yield from _by_line(source)
    for node in (node for statement in body or [] for node in ast.walk(statement)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "[insert]" in node.value:
            yield from _by_line(node.value)


def _by_line(source: str) -> Iterator[str]:
    for match in _IMPORT.finditer(source):
        names = match[1] or match[2]
        yield from (name.strip().split(" ")[0] for name in names.split(","))
