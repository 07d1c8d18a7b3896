"""BigCodeBench (Zhuo et al. 2024, arXiv 2406.15877), complete and instruct, full and hard by its file.

`bigcodebench` has a model continue signature and docstring, `bigcodebench_instruct` asks a chat model. Tests
are a `unittest` class; all of its methods must pass. They replace things in the program's module and look at
its files, so they run in the program's own process: a program can forge a pass, and every result says
`verdict_trust="forgeable"`.

What is run is the calibrated form, the benchmark's own default: `code_prompt` with an empty body comes before
the answer, so that a forgotten import does not fail it. Names `sys`, `os` and `environ` are there, as in its
own evaluator, and plots are not shown.

Most tasks need libraries of its pinned list (`meta["needs"]`); `needs.missing_libraries` says which tasks
cannot be run. Departs in: CPU seconds instead of wall time for its 240 s, one limit for all tasks, no limit
on the stack, 16 MiB of files, no network (tasks that fetch something fail unless their tests replace that).
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from codegen_eval.benchmarks import evalplus, fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.needs import imported, third_party
from codegen_eval.errors import CodealignError
from codegen_eval.extraction import parse_statements
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

_LIMITS = Limits(cpu_seconds=240.0, wall_seconds=480.0, memory_mb=30 * 1024)
_BEFORE = "import os, sys\nfrom os import environ\nenviron['MPLBACKEND'] = 'Agg'\n"
_RUNNER = """

def _run_all(module):
    import sys, unittest
    sys.modules["__test__"] = module
    result = unittest.TestResult()
    unittest.TestLoader().loadTestsFromTestCase(module.TestCases).run(result)
    for kind, found in ((RuntimeError, result.errors), (AssertionError, result.failures)):
        for test, trace in found:
            raise kind(test.id().split(".")[-1] + ": " + trace.strip().split("\\n")[-1])
    assert result.testsRun, "no test was run"

import sys
_run_all(sys.modules[__name__])
"""


@BENCHMARKS.register("bigcodebench")
def bigcodebench(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a BigCodeBench file, to be completed, in its order.

    Args:
        dataset: A file of one version, or the hub's folder; the hard set is a file of its own.
        split: A version, as "v0.1.4": the file with it in its name.

    Raises:
        CodealignError: Without a file, for a row that is no row of BigCodeBench, for a split without file.
    """
    return read(dataset, split, instruct=False)


def read(dataset: Path | None, split: str | None, *, instruct: bool) -> list[Problem]:
    """The problems in the complete or the instruct form."""
    make = functools.partial(_problem, instruct=instruct)
    return fields.read("bigcodebench", dataset, "v0.1.4.jsonl", make, split)


def _problem(row: fields.Row, where: str, *, instruct: bool) -> Problem:
    complete, asked, code, canonical, test = (
        fields.text(row, key, where)
        for key in ("complete_prompt", "instruct_prompt", "code_prompt", "canonical_solution", "test")
    )
    _check(test, where)
    return Problem(
        task_id=fields.text(row, "task_id", where),
        prompt=asked if instruct else complete,
        entry_point=fields.name_of(row, "entry_point", where),
        tests=(CodeTest(test + _RUNNER, in_process=True),),
        canonical_solution=complete + canonical if instruct else canonical,
        continues=not instruct,
        stop=() if instruct else evalplus.STOP_HUMANEVAL,
        assemble=functools.partial(_calibrated, code),
        limits=_LIMITS,
        chat=asked if instruct else evalplus.chat(complete),
        meta={"needs": third_party([*_libs(row, where), *imported(complete, canonical, test)])},
    )


def _calibrated(code_prompt: str, source: str) -> str:
    return f"{_BEFORE}{code_prompt}\n    pass\n{source}"


def _check(test: str, where: str) -> None:
    body = parse_statements(test)
    if body is None:
        raise CodealignError(f"{where}: the test is not Python")
    if "TestCases" not in [node.name for node in body if isinstance(node, ast.ClassDef)]:
        raise CodealignError(f"{where}: the test does not define the class TestCases")


def _libs(row: fields.Row, where: str) -> tuple[str, ...]:
    """`libs`: a list, or one written as text."""
    value = row.get("libs", [])
    try:
        value = ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError, RecursionError):
        raise CodealignError(f"{where}: libs {value!r} is not a list of texts") from None
    return fields.texts({"libs": value}, "libs", where)
