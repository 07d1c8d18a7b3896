"""HumanEval+ (Liu et al. 2023, arXiv 2305.01210): HumanEval with 80 times the inputs.

Two forms, told apart row by row:

- the release's (`HumanEvalPlus.jsonl.gz`): inputs, and right is what the canonical solution answers.
  `meta["groups"]` says which tests are the base ones and which the added ones. HumanEval/32 is judged by the
  polynomial's value at the answer;
- the hub's (`evalplus/humanevalplus`): a test with inputs and results inside. It needs numpy in the box
  (`meta["needs"]`), and has no groups.

How answers are compared: `evalplus.py`. Limits: 4 s an input or four times the reference
(`codegen_eval.oracles`), 20 s for the hub's test. Departs in one point: no limit for all inputs together. The
"mini" and "noextreme" files give other scores; `codealign eval` records the file's hash.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from codegen_eval.benchmarks import evalplus, fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.needs import imported
from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from sandbox import CodeTest, Limits

_HUB_LIMITS = Limits(cpu_seconds=20.0, wall_seconds=80.0, memory_mb=4096)


@BENCHMARKS.register("humanevalplus")
def humanevalplus(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a HumanEval+ file, in its order.

    Args:
        dataset: The release's JSON lines, or the hub's Parquet or JSON lines.
        split: There is only "test".

    Raises:
        CodealignError: Without a file, for a row that is no row of HumanEval+, for another split.
    """
    fields.only_split("humanevalplus", split)
    return fields.read("humanevalplus", dataset, "HumanEvalPlus.jsonl.gz", _problem)


def _problem(row: fields.Row, where: str) -> Problem:
    prompt = fields.text(row, "prompt", where)
    canonical = fields.text(row, "canonical_solution", where)
    entry_point = fields.name_of(row, "entry_point", where)
    problem = Problem(
        task_id=fields.text(row, "task_id", where),
        prompt=prompt,
        entry_point=entry_point,
        tests=(),
        canonical_solution=canonical,
        stop=evalplus.STOP_HUMANEVAL,
        chat=evalplus.chat(prompt),
    )
    return _release(problem, row, where) if "plus_input" in row else _hub(problem, row, where)


def _release(problem: Problem, row: fields.Row, where: str) -> Problem:
    base, plus = (evalplus.inputs(row, key, where) for key in ("base_input", "plus_input"))
    judge = evalplus.judge(problem.entry_point, evalplus.tolerance(row, where), mbpp=False)
    return replace(
        problem,
        oracle=Oracle(problem.reference, tuple(base + plus), judge=judge),
        limits=evalplus.LIMITS,
        meta={"groups": evalplus.groups(base, plus)},
    )


def _hub(problem: Problem, row: fields.Row, where: str) -> Problem:
    test = fields.text(row, "test", where)
    if "def check(" not in test:
        raise CodealignError(f"{where}: the test does not define check(candidate)")
    return replace(
        problem,
        tests=(CodeTest(test, trusted=True),),
        limits=_HUB_LIMITS,
        meta={"needs": imported(test)},
    )
