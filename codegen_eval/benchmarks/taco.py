"""TACO (Li et al. 2023, arXiv 2312.14852): form and judge of APPS, with a file that says how outputs vary.

output_spj.jsonl of the benchmark's repository, put beside the test data, picks the comparer of each test
problem: case 2 ignores upper and lower case, case 3 forgives 1e-6, and case 1, many right answers, needs a
judge of its own that the benchmark does not have. Those problems are left out and counted, and so are the two
that are marked without a case. Without that file every problem is compared as in the released judge, which is
APPS's comparer.

`taco_strict` compares lines as LiveCodeBench does where `taco` takes APPS's comparer.

Departs from the released judge (metrics/testing_util.py) as `apps.py` does, and in two points: that cases are
told apart at all, and a program that fails is not tried again with a file input.txt. That cases 2 and 3 are
what they are taken for here is not said in the repository; 1e-6 is ours. The data's own time limits are in
meta; as in the released judge every test has 4 s.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.apps import pairs_problem
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.rows import Row, collect, file_rows, read_rows
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem

SPECIAL_JUDGE = "output_spj.jsonl"
_CHECKERS = {2: "tokens_casefold", 3: "floats"}
_PLAIN = ("difficulty", "name", "source", "url", "date", "time_limit", "memory_limit")
_LISTS = ("raw_tags", "tags", "skill_types")


@dataclass(frozen=True, slots=True)
class Special:
    """What output_spj.jsonl says of one test problem."""

    special: bool
    case: int


@BENCHMARKS.register("taco")
def taco(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file or folder; ids are "TACO/SPLIT/N" by their place, from 0.

    Args:
        dataset: JSON lines or Parquet, or a folder with files of test and train.
        split: "test" (default) or "train"; only the former has a file on special judges.

    Raises:
        CodealignError: For missing data, another split, a broken row, or a special-judge file that does not
            fit.
    """
    return read(dataset, split, "apps")


def read(dataset: Path | None, split: str | None, checker: str) -> list[Problem]:
    """The problems with a comparer of those outputs that need no special one."""
    name = split or "test"
    special = _special_judges(dataset) if name == "test" else {}
    problem = partial(_problem, split=name, special=special, checker=checker)
    return collect("taco", _numbered(dataset, name, special), problem)


def _numbered(dataset: Path | None, split: str, special: dict[int, Special]) -> Iterator[Row]:
    count = 0
    for count, row in enumerate(read_rows("taco", dataset, split, known=("test", "train")), 1):
        yield Row({**row.values, "_place": count - 1}, row.where)
    if special and set(special) != set(range(count)):
        raise CodealignError(
            f"{SPECIAL_JUDGE} is about {len(special)} problems, {dataset} has {count}: it is another set's"
        )


def _problem(row: Row, split: str, special: dict[int, Special], checker: str) -> Problem | None:
    place = row.values["_place"]
    judge = special.get(place, Special(False, 0))
    if judge.special and judge.case not in (2, 3):
        return None
    meta: dict[str, Any] = row.meta(*_PLAIN, "Expected Auxiliary Space", "Expected Time Complexity")
    meta |= {key: _literal_list(row, key) for key in _LISTS}
    return pairs_problem(row, f"TACO/{split}/{place}", _CHECKERS.get(judge.case, checker), meta)


def _literal_list(row: Row, key: str) -> list[str]:
    """A list that is written as Python inside a text."""
    text = row.text(key, "")
    if not text.strip():
        return []
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise row.error(f"{key} {text[:60]!r} is no list of texts")
    return found


def _special_judges(dataset: Path | None) -> dict[int, Special]:
    """What is known by place; empty where there is no such file beside the data."""
    if dataset is None:
        return {}
    path = (dataset if dataset.is_dir() else dataset.parent) / SPECIAL_JUDGE
    if not path.exists():
        return {}
    found = {}
    for row in file_rows(path):
        place, special, case = (row.values.get(key) for key in ("idx", "special_judge", "case"))
        if type(place) is not int or type(special) is not bool or case not in (0, 1, 2, 3):
            raise row.error("needs idx (a number), special_judge (true or false) and case (0 to 3)")
        found[place] = Special(special, int(case) if special else 0)
    return found
