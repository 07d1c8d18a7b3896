"""NaturalCodeBench (Zhang et al. 2024, arXiv 2405.04520), its Python tasks.

Tests are a file for pytest about whatever the task's text names. They print, capture and replace things in
the program's process, so they run in it: a program can forge a pass, and every result says
`verdict_trust="forgeable"`. A test file that only has plain `test*` functions and methods, with the fixtures
`capfd`, `capsys` and `tmp_path` or none, is run by a few lines here; any other is run by pytest itself, which
the box must show (`meta["needs"]`): `Sandbox(libraries=("pytest", "_pytest", "pluggy", "iniconfig",
"packaging"))`. As there, standard input is 1000 lines "1", and all tests must pass, none skipped.

The code of a response is its first fenced block (`meta["extraction"]`, `code_of`).

Departs in: 840 s of CPU instead of wall time; no coverage run; 16 MiB of files; an unclosed `[Python]` gives
the rest of the text, where the authors' pattern gives nothing. Java tasks need JUnit and are refused. No task
of the released set has input files of its own, so none are read.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.needs import imported, third_party
from codegen_eval.errors import CodealignError
from codegen_eval.extraction import parse_statements
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

_LIMITS = Limits(cpu_seconds=840.0, wall_seconds=1680.0, memory_mb=8 * 1024)
_FIXTURES = frozenset(("self", "capfd", "capsys", "tmp_path"))
_TAGGED = re.compile(r"\[Python\](.*?)\[/Python\]", re.S)
_OPEN_TAG = re.compile(r"\[Python\](.*?)(?:```|\Z)", re.S)
_PYTHON_FENCE = re.compile(r"```python[\n\r](.*?)[\n\r]```", re.S)
_FENCE = re.compile(r"```[\n\r](.*?)[\n\r]```", re.S)
_BARE = re.compile(r"\b(?:from|import|class|def)\s.*", re.S)

# Shared by both ways: the program is the module that the test file imports.
_MODULE = "import sys\nsys.modules[NAME] = sys.modules[__name__]\n"
_PLAIN = """
def _run_all(text, name):
    import collections, inspect, os, pathlib, sys, tempfile, types

    Captured = collections.namedtuple("Captured", "out err")

    class Capture:
        def __init__(self):
            self.files = [tempfile.TemporaryFile() for _ in (1, 2)]
            self.flush()
            self.saved = [os.dup(fd) for fd in (1, 2)]
            for fd, file in zip((1, 2), self.files):
                os.dup2(file.fileno(), fd)
        def flush(self):
            sys.stdout.flush()
            sys.stderr.flush()
        def readouterr(self):
            self.flush()
            found = []
            for file in self.files:
                file.seek(0)
                found.append(file.read().decode("utf-8", "replace"))
                file.seek(0)
                file.truncate()
            return Captured(*found)
        def close(self):
            self.flush()
            for fd, saved in zip((1, 2), self.saved):
                os.dup2(saved, fd)
                os.close(saved)

    def call(function):
        names = [n for n in inspect.signature(function).parameters]
        capture = Capture() if {"capfd", "capsys"} & set(names) else None
        given = {n: capture if n.startswith("cap") else pathlib.Path(tempfile.mkdtemp()) for n in names}
        try:
            function(**given)
        finally:
            if capture is not None:
                capture.close()

    module = types.ModuleType("test_" + name)
    sys.modules[module.__name__] = module
    exec(compile(f"from {name} import *\\n{text}", "<test>", "exec"), module.__dict__)
    tests = []
    for key, value in list(module.__dict__.items()):
        if key.startswith("test") and inspect.isfunction(value):
            tests.append(lambda value=value: call(value))
        elif key.startswith("Test") and inspect.isclass(value):
            tests += [lambda c=value, m=m: call(getattr(c(), m)) for m in vars(value) if m.startswith("test")]
    assert tests, "no test was found"
    for test in tests:
        test()

_run_all(TEXT, NAME)
"""
_BY_PYTEST = """
def _run_all(text, name):
    import pathlib, pytest

    class Reports:
        bad = []
        def pytest_runtest_logreport(self, report):
            self.note(report)
        def pytest_collectreport(self, report):
            self.note(report)
        def note(self, report):
            if report.outcome != "passed":
                self.bad.append(report.nodeid + ": " + str(report.longrepr)[-300:])

    path = pathlib.Path("test_" + name + ".py").absolute()
    path.write_text(f"import pytest\\nfrom {name} import *\\n{text}", encoding="utf-8")
    options = ["-s", "-q", "-p", "no:cacheprovider", "--disable-warnings", "-c", "/dev/null"]
    code = pytest.main([*options, "--rootdir", str(path.parent), str(path)], plugins=[Reports()])
    assert code == 0 and not Reports.bad, (int(code), Reports.bad[:1])

_run_all(TEXT, NAME)
"""


@BENCHMARKS.register("naturalcodebench")
def naturalcodebench(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a NaturalCodeBench file, in its order.

    Args:
        dataset: ncb_python_en.jsonl or ncb_python_zh.jsonl, or their folder.
        split: "python_en" or "python_zh": the file with it in its name.

    Raises:
        CodealignError: Without a file, for a row that is no row of it or a Java task, for another split.
    """
    return fields.read("naturalcodebench", dataset, "ncb_python_en.jsonl", _problem, split)


def code_of(response: str) -> str:
    """The code in a response, by the benchmark's own order: [Python] tags without a fence in them, a fence of
    Python, any fence, all from the first `from`, `import`, `class` or `def`; empty where there is none.
    """
    tagged = _TAGGED.search(response)
    if tagged and "```" not in tagged[1]:
        return tagged[1]
    if "[Python]" in response and not tagged and "```python" not in response:
        found = _OPEN_TAG.search(response)
        return found[1] if found else ""
    if "```" in response:
        found = (_PYTHON_FENCE if "```python" in response else _FENCE).search(response)
        return found[1] if found else ""
    found = _BARE.search(response)
    return found[0] if found else ""


def _problem(row: fields.Row, where: str) -> Problem:
    prompt, tests, answer = (
        fields.text(row, key, where) for key in ("prompt", "testcases", "reference_solution")
    )
    if "org.junit" in tests or "```java" in answer:
        raise CodealignError(f"{where}: a Java task, which needs JUnit; only the Python files are run")
    number = fields.whole(row, "_id", where)
    text = f"{tests}\n{fields.text(row, 'setup_code', where)}"
    reference = code_of(answer)
    by_pytest = needs_pytest(text)
    runner = (_MODULE + (_BY_PYTEST if by_pytest else _PLAIN)).replace("NAME", repr(f"python_{number}"))
    return Problem(
        task_id=f"NaturalCodeBench/{number}",
        prompt=prompt,
        entry_point="sys",  # tests call what they like; this name every program has
        tests=(CodeTest(runner.replace("TEXT", repr(text)), in_process=True),),
        canonical_solution=reference,
        continues=False,
        assemble=_with_input,
        limits=_LIMITS,
        meta={
            "classification": row.get("classification"),
            "extraction": "first",
            "needs": third_party([*imported(text, reference), *(["pytest"] if by_pytest else [])]),
        },
    )


def needs_pytest(text: str) -> bool:
    """Whether a test file has more than plain test functions, and methods of plain classes."""
    body = parse_statements(text)
    for node in (node for statement in body or [] for node in ast.walk(statement)):
        if (isinstance(node, ast.Name) and node.id == "pytest") or isinstance(node, ast.AsyncFunctionDef):
            return True
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test") and node.bases:
            return True
        if isinstance(node, ast.FunctionDef) and not _plain(node):
            return True
    return body is None


def _plain(node: ast.FunctionDef) -> bool:
    if node.name.lower().startswith(("setup", "teardown")):
        return False
    arguments = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return not node.name.startswith("test") or (arguments <= _FIXTURES and not node.decorator_list)


def _with_input(source: str) -> str:
    return f'import io, sys\nsys.stdin = io.StringIO("1\\n" * 1000)\n{source}\n'
