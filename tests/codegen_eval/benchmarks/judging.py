"""What tests of benchmark readers share: files of rows, programs run on a problem's tests, mutants."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.records import Problem
from sandbox import Result, Sandbox


def write(path: Path, *rows: Any) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    """A row that lacks a field."""
    return {name: value for name, value in row.items() if name != key}


def results(box: Sandbox, problem: Problem, *sources: str) -> list[Result]:
    """What became of sources on a problem's hidden tests."""
    return list(box.run(problem.program(source) for source in sources))


def verdicts(box: Sandbox, problem: Problem, *sources: str) -> list[str]:
    """Their verdicts."""
    return [result.verdict.value for result in results(box, problem, *sources)]


def returns_none(source: str) -> str:
    """A program all of whose functions return None."""
    with warnings.catch_warnings():  # benchmarks have their "\\d"
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Return):
            node.value = ast.Constant(None)
    return ast.unparse(ast.fix_missing_locations(tree))


@contextmanager
def showing(*libraries: str) -> Iterator[Sandbox]:
    """A sandbox that shows installed libraries; skips where they lie below /tmp, as a worktree's do."""
    try:
        box = Sandbox(1, libraries=libraries)
    except ValueError as error:
        if "below /tmp" not in str(error) and "not installed" not in str(error):
            raise
        pytest.skip(str(error))
    with box:
        yield box
