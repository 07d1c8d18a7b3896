"""ReCode (Wang et al. 2022, arXiv 2212.10264): HumanEval and MBPP with perturbed prompts.

Read are the repository's files (`humaneval_ButterFingersPerturbation_s0.jsonl` and their like, one or a
folder), whose names say transformation and seed, the hub's rows, which have columns for them, and the two
nominal forms: whole prompts, and partial ones that hold the first half of the body. A task id is
`HumanEval/3/ButterFingersPerturbation/s0`; `meta["nominal"]` has the task it stems from, which is what robust
pass rates group by, `meta["form"]` the nominal form that a score must be set against.

As HumanEval otherwise: limits of the sandbox, the tests' `check(candidate)` with the renamed entry point.
Prompts stay as they are, down to the last newline (the hub's harness strips them, which changes the family
new_line_aftercode).

Some released perturbations are broken: with its own canonical solution the program does not parse or fails
(of seed 0's HumanEval files 425 of 4,756). They are read as any other; only a run of the references shows
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import CodeTest

_STOP = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```")
_FILE = re.compile(r"[^_]+_(?P<name>\w+?)_s(?P<seed>\d+)\.jsonl(\.gz)?")
_PARTIAL = frozenset(("format", "natgen"))  # families that perturb partial prompts


@BENCHMARKS.register("recode")
def recode(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of ReCode's files, in the files' order.

    Args:
        dataset: A file, or a folder of files.
        split: A transformation or seed, as "ButterFingers" or "_s0": the files with it in their names.

    Raises:
        CodealignError: Without a file, or for a row that is no row of ReCode.
    """
    found = fields.files("recode", dataset, "humaneval_doc2comments_s0.jsonl", split)
    return fields.problems((placed for path in found for placed in _named(path)), _problem)


def _named(path: Path) -> Iterator[fields.Placed]:
    """Rows with transformation, seed and family, from the path where they have no such columns."""
    match = _FILE.fullmatch(path.name)
    said: fields.Row = {}
    if match:
        said = {"perturbation_name": match["name"], "seed": int(match["seed"])}
    elif "partial" in path.name:
        said = {"kind": "nominal_partial"}
    said["perturbation_family"] = path.parent.name
    for where, row in fields.rows(path):
        yield where, {**said, **row}


def _problem(row: fields.Row, where: str) -> Problem:
    prompt, test = (fields.text(row, key, where) for key in ("prompt", "test"))
    if "def check(" not in test:
        raise CodealignError(f"{where}: the test does not define check(candidate)")
    task = row.get("task_id")
    if isinstance(task, bool) or not isinstance(task, str | int):
        raise CodealignError(f"{where}: task_id must be text or a number, got {task!r}")
    nominal = f"MBPP/{task}" if isinstance(task, int) else task
    kind, name, seed, form = _perturbation(row, where)
    return Problem(
        task_id=f"{nominal}/{kind}",
        prompt=prompt,
        entry_point=fields.name_of(row, "entry_point", where),
        tests=(CodeTest(test, trusted=True),),
        canonical_solution=fields.text({"canonical_solution": "", **row}, "canonical_solution", where),
        stop=_STOP,
        meta={
            "nominal": nominal,
            "family": row.get("perturbation_family") if name else None,
            "perturbation": name,
            "seed": seed,
            "form": form,
        },
    )


def _perturbation(row: fields.Row, where: str) -> tuple[str, str | None, int | None, str]:
    """The end of the task id, transformation, seed, and the nominal form."""
    if row.get("perturbation_name") is None:
        form = fields.text({"kind": "nominal", **row}, "kind", where)
        return form, None, None, "partial" if form.endswith("partial") else "full"
    name, seed = fields.text(row, "perturbation_name", where), fields.whole(row, "seed", where)
    form = "partial" if row.get("perturbation_family") in _PARTIAL else "full"
    return f"{name}/s{seed}", name, seed, form
