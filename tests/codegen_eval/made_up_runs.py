"""An in-process stand-in for the sandbox, and a made-up benchmark, for tests of what lies above them.

It runs programs that these tests themselves contain; a call takes what a `# seconds: X` comment says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen_eval.records import Problem
from codegen_eval.runs import write_jsonl
from sandbox import (
    CallTest,
    CellResult,
    CodeTest,
    Isolation,
    Limits,
    MatrixJob,
    PassMatrix,
    Program,
    Result,
    Timing,
    TimingJob,
    Verdict,
)

DOUBLE = 'def double(x):\n    """Twice x.\n\n    >>> double(2)\n    4\n    """\n'
COUNT = 'def count(s):\n    """Letters of s.\n\n    >>> count("ab")\n    2\n    """\n'


def verdict(source: str, entry_point: str, test: CallTest | CodeTest) -> Verdict:
    """What one program does on one test."""
    names: dict[str, Any] = {}
    try:
        code = compile(source, "program", "exec")
    except (SyntaxError, ValueError):
        return Verdict.syntax_error
    try:
        exec(code, names)
        if isinstance(test, CallTest):
            return Verdict.passed if names[entry_point](*test.args) == test.expected else Verdict.wrong_answer
        tests: dict[str, Any] = {entry_point: names[entry_point]}
        exec(test.source, tests)
        if "check" in tests:
            tests["check"](names[entry_point])
    except AssertionError:
        return Verdict.wrong_answer
    except Exception:
        return Verdict.runtime_error
    return Verdict.passed


def fold(items: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Distinct items in order of appearance, and each item's place."""
    keys = [repr(i) for i in items]
    first = list(dict.fromkeys(keys))
    return [items[keys.index(key)] for key in first], [first.index(key) for key in keys]


class FakeSandbox:
    """Runs in this process and counts what it was asked."""

    def __init__(self) -> None:
        self.jobs = 0

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        for job in jobs:
            self.jobs += 1
            codes, code_index = fold(job.codes)
            tests, test_index = fold(job.tests)
            cells = [[list(Verdict).index(verdict(c, job.entry_point, t)) for t in tests] for c in codes]
            yield PassMatrix(
                np.array(cells, dtype=np.uint8).reshape(len(codes), len(tests)),
                np.bincount(code_index, minlength=len(codes)),
                np.bincount(test_index, minlength=len(tests)),
                np.array(code_index, dtype=np.int64),
                np.array(test_index, dtype=np.int64),
            )

    def time_many(self, jobs: Iterable[TimingJob]) -> Iterator[np.ndarray]:
        for job in jobs:
            self.jobs += 1
            marks = [re.search(r"# seconds: (\S+)", source) for source in job.sources]
            seconds = [float(mark[1]) if mark else 1e-3 for mark in marks]
            yield np.repeat(np.array(seconds)[:, None], len(job.calls), axis=1)

    def measure(self, jobs: Iterable[TimingJob]) -> Iterator[Timing]:
        for job in jobs:
            (seconds,) = self.time_many([job])
            spread = [re.search(r"# spread: (\S+)", source) for source in job.sources]
            wide = np.array([[float(mark[1]) if mark else 0.01] for mark in spread])
            shape = seconds.shape
            repeats = np.full(shape, job.repeats)
            relative = seconds / 1e-3
            rounds = seconds[..., None]
            wide = np.broadcast_to(wide, shape)
            yield Timing(seconds, seconds, relative, rounds, wide, repeats, None, (1e-3,), 0)

    def run(self, programs: Iterable[Program], *, all_tests: bool = False) -> Iterator[Result]:
        for program in programs:
            found = [verdict(program.source, program.entry_point, t) for t in program.tests]
            worst = next((v for v in found if v is not Verdict.passed), Verdict.passed)
            cells = tuple(CellResult(v, "", 0.0) for v in found)
            yield Result(program.id, worst, "", "", cells, 0.0, 0.0, Isolation("none"), Limits())


def problems() -> list[Problem]:
    """Two problems with hidden tests."""
    return [
        Problem("made/double", DOUBLE, "double", (CallTest((5,), 10),), "    return 2 * x\n"),
        Problem("made/count", COUNT, "count", (CallTest(("abc",), 3),), "    return len(s)\n"),
    ]


PROGRAMS = {
    "made/double": [
        "    return 2 * x\n",
        "    return x + x  # seconds: 0.1\n",
        "    return 2 * x\n",
        "    return x ** 2\n",
        "    return x +\n",
        "    return 3 * x\n\nprint(double(1))\n",
    ],
    "made/count": ["    return len(s)\n", "    return 2\n", "    return 0\n"],
}
TESTS = {
    "made/double": [
        "assert double(3) == 6\nassert double(0) == 0\n",
        "assert double(3)==6\nassert double(1) == 3\nassert double(",
    ],
    "made/count": ["assert count('abcd') == 4\nassert count('') == 0\n"],
}


def write_samples(folder: Path) -> tuple[Path, Path]:
    """programs.jsonl and tests.jsonl of the made-up model."""
    paths = []
    for name, texts in (("programs", PROGRAMS), ("tests", TESTS)):
        rows = [
            {"task_id": task_id, "sample": i, "completion": text}
            for task_id, group in texts.items()
            for i, text in enumerate(group)
        ]
        paths.append(folder / f"{name}.jsonl")
        write_jsonl(paths[-1], rows)
    return paths[0], paths[1]
