"""EffiBench (Huang et al. 2024, arXiv 2402.02037): `class Solution`, judged by asserts, for time and memory.

The asserts are the benchmark's own and run in the trusted test process, on the program's class by proxy. ET,
MU, TMU and their ratios to the canonical solution are in `metrics/efficiency.py`.

Departs from the released scripts in these points:

- 5 s of CPU decide, and a time-out is one: there an exit status is lost, and silent time-outs count as
  success.
- Text on the error stream does not fail a task.
- All asserts are run; one of the released scripts takes the first 100 lines only.
- Where the asserts call a method for what it does to its arguments (a call that stands alone), they run in
  the program's own process: a pass can be forged there, and the result says so (`meta["forgeable"]`).
- The star imports before programs are a list of names, without those that hide builtins; the prompt is ours.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.leetcode import IMPORTS, LIBRARIES, NODES
from codegen_eval.benchmarks.rows import Row, collect, read_rows, with_prelude
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

LIMITS = Limits(cpu_seconds=5.0, wall_seconds=20.0, memory_mb=1024)
PRELUDE = IMPORTS + LIBRARIES + NODES
_METHOD = re.compile(r"\bsolution\.([A-Za-z_]\w*)\s*\(")


@BENCHMARKS.register("effibench")
def effibench(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file or folder, judged by the full asserts (`test_case`).

    Args:
        dataset: JSON lines, a JSON array or Parquet, or a folder with files of test.
        split: There is only "test".

    Raises:
        CodealignError: For missing data, another split, or a broken row.
    """
    return collect("effibench", read_rows("effibench", dataset, split or "test", known=("test",)), _problem)


def _problem(row: Row) -> Problem | None:
    number = row.values.get("problem_idx")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise row.error(f"needs a problem_idx (a number), got {number!r}")
    asserts = row.text("test_case", "")
    if not asserts.strip():
        return None
    forgeable = _uses_arguments(row, asserts)
    solution = row.text("canonical_solution", "")
    if solution and "class Solution" not in solution:
        raise row.error("canonical_solution has no class Solution")
    called = _METHOD.search(asserts)
    imports = "" if forgeable else IMPORTS
    test = f"{imports}\nsolution = Solution()\n{asserts}"
    return Problem(
        task_id=f"EffiBench/{number}",
        prompt=_prompt(row),
        entry_point=f"Solution.{called[1]}" if called else "Solution",
        tests=(CodeTest(test, trusted=not forgeable, in_process=forgeable),),
        canonical_solution=solution,
        continues=False,
        assemble=partial(with_prelude, PRELUDE),
        limits=LIMITS,
        meta={**row.meta("task_name"), "forgeable": forgeable, "extraction": "first"},
    )


def _uses_arguments(row: Row, asserts: str) -> bool:
    """Whether a method of `solution` is called for its effect: data that cross to the program are copies."""
    try:
        tree = ast.parse(asserts)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise row.error(f"test_case is no Python source ({type(error).__name__}: {error})") from None
    return any(
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and isinstance(node.value.func.value, ast.Name)
        and node.value.func.value.id == "solution"
        for node in ast.walk(tree)
    )


def _prompt(row: Row) -> str:
    task = row.text("markdown_description", "") or row.text("description")
    return (
        "Write class Solution for the task below, so that it passes the test cases. Answer with one "
        f"```python block.\n\n# Task description:\n{task}\n"
        f"# Test cases:\n```python\n{row.text('small_test_cases', '')}\n```\n"
    )
