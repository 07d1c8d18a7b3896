"""HumanEval (Chen et al. 2021, arXiv 2107.03374), read from its JSONL(.gz); nothing downloads.

The hidden `test` defines `check(candidate)`; METADATA assignments in it are harmless and stay.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_numbered
from codegen_eval.records import Problem
from sandbox import CodeTest

_FIELDS = ("task_id", "prompt", "canonical_solution", "test", "entry_point")


@BENCHMARKS.register("humaneval")
def humaneval(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a HumanEval file, in its order.

    Args:
        dataset: HumanEval.jsonl or HumanEval.jsonl.gz, as in OpenAI's repository.
        split: There is only "test".

    Raises:
        CodealignError: Without a file, for a row that lacks a field or repeats a task id, for another split.
    """
    if dataset is None:
        raise CodealignError("humaneval is not shipped: give its file, --dataset PATH/HumanEval.jsonl.gz")
    if split not in (None, "test"):
        raise CodealignError(f"humaneval has only the split 'test', not {split!r}")
    problems: dict[str, Problem] = {}
    for line, row in read_numbered(dataset):
        problem = _problem(row, f"{dataset}:{line}")
        if problem.task_id in problems:
            raise CodealignError(f"{dataset}:{line}: task id {problem.task_id!r} occurs twice")
        problems[problem.task_id] = problem
    return list(problems.values())


def _problem(row: dict[str, Any], where: str) -> Problem:
    for key in _FIELDS:
        if not isinstance(row.get(key), str):
            raise CodealignError(f"{where}: not a HumanEval row, the text field {key!r} is missing")
    if not row["entry_point"].isidentifier():
        raise CodealignError(f"{where}: entry_point {row['entry_point']!r} is not a name")
    if "def check(" not in row["test"]:
        raise CodealignError(f"{where}: the test does not define check(candidate)")
    return Problem(
        task_id=row["task_id"],
        prompt=row["prompt"],
        entry_point=row["entry_point"],
        tests=(CodeTest(row["test"], trusted=True),),
        canonical_solution=row["canonical_solution"],
    )
