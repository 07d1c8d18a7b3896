"""PIE (Madaan et al. 2023, arXiv 2302.07867; second release: Shypula et al. 2024): make a program faster.

A row is a slow and a fast program for one contest problem; an answer is a program that must do the same, on
tests in files, and is timed against the slow one (`metrics/efficiency.py`). Both releases are read: the first
(`input`, `target`, `language`) and the second (`src_code`, `tgt_code`, C++).

Departs from the released judges in these points:

- Programs are run on this machine by the sandbox, not simulated by gem5; C++ is compiled as the sandbox does,
  with -O2, not -O3, and CPU time has a limit of 10 s instead of 120 s of simulated time.
- Extra lines of output are wrong; there they are not looked at.
- Tests that a row names and that are not there are an error, and rows without any tests are left out.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.rows import Row, collect, read_rows
from codegen_eval.records import Problem
from sandbox import IOTest, Limits

LIMITS = Limits(cpu_seconds=10.0, wall_seconds=40.0, memory_mb=1024)
TOLERANCE = 1e-3
FOLDERS = ("merged_test_cases", "test_cases", "public_test_cases", "generated_test_cases")
LANGUAGES = {"python": "python", "c++": "cpp", "cpp": "cpp"}
_INPUT = re.compile(r"input\.(\d+)\.txt")
_PROBLEM = re.compile(r"[A-Za-z0-9_-]{1,40}")
_META = (
    *("cpu_time_v0", "cpu_time_v1", "memory_v0", "memory_v1", "status_v0", "status_v1", "improvement_frac"),
    *("measured_runtime_v0", "measured_runtime_v1", "runtime_lift", "pctile"),
    *("src_code_runtime", "tgt_code_runtime", "src_agg_runtime", "tgt_agg_runtime"),
)


@BENCHMARKS.register("pie")
def pie(dataset: Path | None, split: str | None) -> list[Problem]:
    """The pairs of a file or folder, without those whose two programs occurred before or are the same.

    `meta["input"]` is the slow program; the canonical solution is the fast one. A first version that timed
    out has `cpu_time_v0` 1000000, and measured lifts show that some "fast" programs are slower: filter by
    meta.

    Args:
        dataset: JSON lines, or a folder with files of test, val and train. The tests are beside it, in
            `merged_test_cases/PROBLEM/input.N.txt` and `output.N.txt` (or public_, generated_test_cases).
        split: "test" (default), "val" or "train".

    Raises:
        CodealignError: For missing data or tests, another split, or a broken row.
    """
    name = split or "test"
    rows = read_rows("pie", dataset, name, known=("test", "val", "train"))
    folder = dataset if dataset is not None and dataset.is_dir() else Path(dataset or ".").parent
    return collect("pie", _distinct(rows), lambda row: _problem(row, folder))


def _distinct(rows: Iterator[Row]) -> Iterator[Row]:
    seen: set[tuple[str, str]] = set()
    total = 0
    for row in rows:
        total += 1
        pair = (_code(row, "src_code", "input"), _code(row, "tgt_code", "target"))
        if pair[0] != pair[1] and pair not in seen:
            seen.add(pair)
            yield row
    if len(seen) < total:
        warnings.warn(
            f"pie: {total - len(seen)} of {total} rows have an earlier row's programs, or two equal ones, "
            "and are left out",
            stacklevel=2,
        )


def _code(row: Row, *keys: str) -> str:
    """The first of the fields that the row has."""
    return row.text(next((key for key in keys if key in row.values), keys[0]))


def _problem(row: Row, folder: Path) -> Problem | None:
    problem = row.name("problem_id")
    if not _PROBLEM.fullmatch(problem):
        raise row.error(f"problem_id {problem!r} is no name of a folder")
    language = row.text("language", "cpp").lower()
    if language not in LANGUAGES:
        raise row.error(f"language {language!r} is none of {', '.join(LANGUAGES)}")
    tests = _tests(row, folder, problem)
    if not tests:
        return None
    slow = _code(row, "src_code", "input")
    ids = [_identity(row, *keys) for keys in (("src_id", "submission_id_v0"), ("tgt_id", "submission_id_v1"))]
    return Problem(
        task_id=f"{problem}/{ids[0]}-{ids[1]}",
        prompt=(
            "Below is a program. Optimize the program and provide a more efficient version.\n\n"
            f"### Program:\n{slow}\n\n### Optimized Version:\n"
        ),
        entry_point="",
        tests=tests,
        canonical_solution=_code(row, "tgt_code", "target"),
        continues=False,
        stop=("\n### Program:",),
        language=LANGUAGES[language],
        limits=LIMITS,
        meta={**row.meta(*_META), "problem_id": problem, "input": slow},
    )


def _identity(row: Row, *keys: str) -> str:
    value: Any = next((row.values[key] for key in keys if row.values.get(key) is not None), None)
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise row.error(f"needs {' or '.join(keys)}")
    return str(value)


def _tests(row: Row, folder: Path, problem: str) -> tuple[IOTest, ...]:
    """The tests that the row names by number; all of the problem's where it names none."""
    places = [folder / name / problem for name in FOLDERS if (folder / name / problem).is_dir()]
    files = {
        int(match[1]): file
        for place in reversed(places)
        for file in place.iterdir()
        if (match := _INPUT.fullmatch(file.name))
    }
    wanted = row.list("tests") or sorted(files)
    if not all(type(number) is int for number in wanted):
        raise row.error("tests must be a list of numbers")
    absent = [number for number in wanted if number not in files]
    if absent:
        where = f"{folder}/{FOLDERS[0]}/{problem}/input.{absent[0]}.txt"
        raise row.error(f"test {absent[0]!r} of problem {problem!r} is missing: {where}")
    return tuple(_test(row, files[number]) for number in wanted)


def _test(row: Row, given: Path) -> IOTest:
    wanted = given.with_name(given.name.replace("input", "output"))
    try:
        return IOTest(given.read_bytes(), wanted.read_bytes(), checker="float_lines", tolerance=TOLERANCE)
    except FileNotFoundError:
        raise row.error(f"{given} has no {wanted.name} beside it") from None
    except OSError as error:
        raise row.error(f"cannot read the test {given}: {error.strerror or error}") from None
