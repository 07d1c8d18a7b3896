"""ENAMEL (Qiu et al. 2024, arXiv 2406.06647): HumanEval's tasks with expert references and graded inputs.

Reads the authors' `enamel.csv`; nothing downloads. Programs are run on inputs that the data's generators make
in the sandbox, in four sizes; right is what the data's checker says of the answer and the reference's answer,
which neither the program nor anything in its process ever sees.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.enamel.data import EXCLUDED, Row, read_rows
from codegen_eval.benchmarks.enamel.inputs import DEFAULT_TESTS, SEED, generate
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.metrics.enamel import HARDNESS
from codegen_eval.records import Graded, Problem
from sandbox import Sandbox

SPLITS = ("test", "all")
# Checkers of this meaning are compared here, which saves a call.
_EQUAL = "def __check(input, answer, output):\n    return type(output) == type(answer) and output == answer"


@BENCHMARKS.register("enamel")
def enamel(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of an `enamel.csv`.

    Args:
        dataset: The file, or the folder that holds it.
        split: `test`, the benchmark's 142 problems (default), or `all` 164.

    Raises:
        CodealignError: Without a file, for another split, for a row that lacks a column.
    """
    if dataset is None:
        raise CodealignError("enamel is not shipped: give its file, --dataset PATH/enamel.csv")
    if split not in (None, *SPLITS):
        raise unknown("split of enamel", str(split), SPLITS)
    path = dataset / "enamel.csv" if dataset.is_dir() else dataset
    rows = read_rows(path)
    return [_problem(row) for row in rows if split == "all" or row.number not in EXCLUDED]


def _problem(row: Row) -> Problem:
    return Problem(
        task_id=row.task_id,
        prompt=row.prompt,
        entry_point=row.entry_point,
        tests=(),
        canonical_solution="\n" + row.reference,
        graded=partial(_graded, row),
        # As the authors run it: a whole program that repeats the header, or the body alone.
        assemble=partial(_behind, row.prompt + "\n"),
        meta={"sizes": list(row.sizes), "number": row.number},
    )


def _behind(head: str, text: str) -> str:
    return head + text


def _graded(row: Row, box: Sandbox) -> Graded:
    levels = generate(row, box, SEED, DEFAULT_TESTS)
    checker = "" if row.checker.strip() == _EQUAL else f"{row.prompt}\n    pass\n{row.checker}"
    return Graded(levels, HARDNESS, checker)
