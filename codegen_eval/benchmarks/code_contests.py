"""CodeContests (Li et al. 2022, AlphaCode, arXiv 2203.07814): programs on input and output.

Tests are the public, private and generated ones, in this order; outputs are compared token by token. There is
no special judge, so a right answer of several counts as wrong. The figure is n@k (`metrics/n_at_k.py`).

Departs in two points: memory limits are the row's or 1 GiB, whichever is more, as an interpreter needs room
of its own, and a problem that reads or writes files has a program that does so in a folder of its own, with
the test's input as the file.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.rows import Row, collect, read_rows, with_prelude
from codegen_eval.records import Problem
from sandbox import IOTest, Limits

LANGUAGES = {0: "unknown", 1: "python2", 2: "cpp", 3: "python", 4: "java"}
SOURCES = {
    0: "unknown",
    1: "CodeChef",
    2: "Codeforces",
    3: "HackerEarth",
    4: "CodeJam",
    6: "AtCoder",
    7: "Aizu",
}
_KINDS = ("public", "private", "generated")
_META = (
    *(
        "difficulty",
        "cf_contest_id",
        "cf_index",
        "cf_points",
        "cf_rating",
        "cf_tags",
        "is_description_translated",
    ),
    *("time_limit", "memory_limit_bytes", "input_file", "output_file"),
)
_FILES = """
import atexit as _atexit, os as _os, sys as _sys
_os.chdir("/tmp")
def _give_back(name={output_file!r}):
    _sys.stdout.flush()
    with open(name, "rb") as file:
        _sys.stdout.buffer.write(file.read())
    _sys.stdout.flush()
if {input_file!r}:
    with open({input_file!r}, "wb") as _file:
        _file.write(_sys.stdin.buffer.read())
if {output_file!r}:
    _atexit.register(_give_back)
"""


@BENCHMARKS.register("code_contests")
def code_contests(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file or folder, to be solved in Python 3.

    `meta` has how many tests are of which kind (`n_tests`), and `solutions` and `incorrect_solutions` as
    pairs of language and source. The canonical solution is the first in Python 3, if there is one.

    Args:
        dataset: JSON lines or Parquet, or a folder with files of test, valid and train.
        split: "test" (default), "valid" or "train".

    Raises:
        CodealignError: For missing data, another split, or a broken row.
    """
    rows = read_rows("code_contests", dataset, split or "test", known=("test", "valid", "train"))
    return collect("code_contests", rows, _problem)


def _problem(row: Row) -> Problem | None:
    pairs = {kind: _pairs(row, f"{kind}_tests", ("input", "output")) for kind in _KINDS}
    tests = tuple(IOTest(given, wanted) for kind in _KINDS for given, wanted in pairs[kind])
    if not tests:
        return None
    solutions, incorrect = (
        [(_language(row, number), source) for number, source in _pairs(row, key, ("language", "solution"))]
        for key in ("solutions", "incorrect_solutions")
    )
    names = {key: row.text(key, "") for key in ("input_file", "output_file")}
    prelude = _FILES.format(**names) if any(names.values()) else ""
    return Problem(
        task_id=row.name("name"),
        prompt=row.text("description"),
        entry_point="",
        tests=tests,
        canonical_solution=next((source for language, source in solutions if language == "python"), ""),
        continues=False,
        assemble=partial(with_prelude, prelude) if prelude else None,
        limits=_limits(row),
        meta={
            **row.meta(*_META),
            "source": _source(row),
            "n_tests": {kind: len(pairs[kind]) for kind in _KINDS},
            "solutions": solutions,
            "incorrect_solutions": incorrect,
        },
    )


def _pairs(row: Row, key: str, parts: tuple[str, str]) -> list[tuple[Any, str]]:
    """What a column of two lists side by side holds, or a list of objects with the two."""
    value = row.values.get(key)
    if value is None:
        return []
    if isinstance(value, list):
        value = {
            part: [item.get(part) if isinstance(item, dict) else None for item in value] for part in parts
        }
    first, second = (value.get(part) for part in parts) if isinstance(value, dict) else (None, None)
    if not isinstance(first, list) or not isinstance(second, list) or len(first) != len(second):
        raise row.error(f"{key} must hold lists {parts[0]} and {parts[1]} of one length")
    if not all(isinstance(item, str) for item in (*second, *(first if parts[0] == "input" else ()))):
        raise row.error(f"{key} must hold texts")
    return list(zip(first, second, strict=True))


def _language(row: Row, number: Any) -> str:
    if type(number) is not int or number not in LANGUAGES:
        raise row.error(f"language {number!r} of a solution is none of {', '.join(map(str, LANGUAGES))}")
    return LANGUAGES[number]


def _source(row: Row) -> str:
    number = row.values.get("source") or 0
    if type(number) is not int:
        raise row.error(f"source {number!r} is no number")
    return SOURCES.get(number, "unknown")


def _limits(row: Row) -> Limits | None:
    """The row's limits; None, for the sandbox's own, where it names no time."""
    given = row.values.get("time_limit")
    if given is None:
        return None
    parts: list[Any] = [
        given.get(key) or 0 if isinstance(given, dict) else None for key in ("seconds", "nanos")
    ]
    if any(type(part) is not int or part < 0 for part in parts):
        raise row.error(f"time_limit {given!r} needs seconds and nanos, whole numbers")
    seconds = parts[0] + parts[1] / 1e9
    if seconds == 0:
        return None
    memory = row.values.get("memory_limit_bytes") or 0
    if type(memory) is not int or memory < 0:
        raise row.error(f"memory_limit_bytes {memory!r} is no number of bytes")
    return Limits(seconds, 4 * seconds, max(1024, math.ceil(memory / 2**20)))
