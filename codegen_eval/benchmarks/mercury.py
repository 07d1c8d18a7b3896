"""Mercury (Du et al. 2024, arXiv 2402.07844): methods of `class Solution`, right and fast.

Each row brings source of its own that turns a test case into arguments (`convert_offline`) and judges the
answer (`evaluate_offline`). That is the benchmark's code and runs in the trusted test process, never here and
never in the program's. The figure is Beyond (`metrics/efficiency.py`), for which the rows' solutions, in
`meta`, are timed on the same machine.

Departs from the released judge in these points:

- One test holds all cases of a problem, and 30 s of CPU, not of wall time, hold for it.
- Every case has a new `Solution()`.
- What the method changed in its arguments is given back as data with its answer, as `evaluate_offline` may
  look at either.
- Rows whose source uses the package `lctk`, which builds lists and trees where the method runs, are judged in
  the program's own process: a pass can be forged there, and the result says so. They need
  Sandbox(libraries=("lctk",)).
- `sortedcontainers` is there where the sandbox was given it; `meta["needs"]` names what a row's source
  mentions.
- The prompt is the question and the code's head, without the released example.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.leetcode import IMPORTS, LIBRARIES, NODES
from codegen_eval.benchmarks.rows import Row, collect, read_rows, with_prelude
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

LIMITS = Limits(cpu_seconds=30.0, wall_seconds=60.0, memory_mb=1024)
_OPTIONAL = ("sortedcontainers", "lctk")
_LCTK = """
try:
    import lctk
except ImportError:
    pass
"""
PRELUDE = f"{IMPORTS}{LIBRARIES}{_LCTK}{NODES}\ndef print(*args, **kwargs): pass\n"
_AFTER = """
def answer_with_arguments(*arguments):
    answer = Solution().{method}(*arguments)
    return answer, list(arguments)
"""
_TEST = """
{imports}
import json
{convert}
{evaluate}
def check(candidate):
    for case in json.loads({cases!r}):
        inputs, expected = convert_offline((case["input"], case["expected"]))
        outputs, inputs = answer_with_arguments(*inputs)
        assert evaluate_offline(inputs, outputs, expected), "evaluate_offline says no"
"""
_MILLISECONDS = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*ms\s*")
DIFFICULTIES = ("Easy", "Medium", "Hard")


@BENCHMARKS.register("mercury")
def mercury(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file or folder; the canonical solution is the one that the platform found fastest.

    `meta["solutions"]` are pairs of the platform's milliseconds (None where unknown) and source, as in the
    row.

    Args:
        dataset: JSON lines or Parquet, or a folder with files of eval and train.
        split: "eval" (default), which is the one that is scored, or "train".

    Raises:
        CodealignError: For missing data, another split, or a broken row.
    """
    return collect(
        "mercury", read_rows("mercury", dataset, split or "eval", known=("eval", "train")), _problem
    )


def _problem(row: Row) -> Problem | None:
    method = row.text("entry_point")
    if not method.isidentifier():
        raise row.error(f"entry_point {method!r} is not a name")
    cases = _cases(row)
    if not cases:
        return None
    solutions = _solutions(row)
    fastest = min(
        solutions, key=lambda pair: float("inf") if pair[0] is None else pair[0], default=(None, "")
    )
    sources = [row.text("convert_offline"), row.text("evaluate_offline")]
    needs = [name for name in _OPTIONAL if any(name in source for source in sources)]
    return Problem(
        task_id=row.name("slug_name"),
        prompt=_prompt(row),
        entry_point=f"Solution.{method}",
        tests=(_test(row, cases, sources, in_process="lctk" in needs),),
        canonical_solution=fastest[1],
        continues=False,
        stop=("\n### Question:", "\n### Code Prompt:"),
        assemble=partial(_assemble, method=method),
        limits=LIMITS,
        meta={
            **row.meta("id"),
            "difficulty": row.text("difficulty", ""),
            "solutions": solutions,
            "needs": needs,
            "n_cases": len(cases),
            "generator": row.text("generator_code", ""),
        },
    )


def _assemble(source: str, method: str) -> str:
    return with_prelude(PRELUDE, source) + _AFTER.format(method=method)


def _test(row: Row, cases: list[Any], sources: list[str], *, in_process: bool) -> CodeTest:
    for key, source in zip(("convert_offline", "evaluate_offline"), sources, strict=True):
        if f"def {key}(" not in source:
            raise row.error(f"{key} does not define {key}()")
    imports = "" if in_process else IMPORTS + LIBRARIES
    text = _TEST.format(
        imports=imports, convert=sources[0], evaluate=sources[1], cases=row.text("test_cases")
    )
    return CodeTest(text, trusted=not in_process, in_process=in_process)


def _cases(row: Row) -> list[dict[str, Any]]:
    cases = row.json("test_cases", [])
    if not isinstance(cases, list) or not all(
        isinstance(case, dict) and {"input", "expected"} <= set(case) for case in cases
    ):
        raise row.error("test_cases must hold a list of objects with input and expected")
    return cases


def _solutions(row: Row) -> list[tuple[float | None, str]]:
    found = []
    for item in row.list("solutions"):
        if not isinstance(item, dict) or not isinstance(item.get("solution"), str):
            raise row.error("solutions must be objects with a solution")
        match = _MILLISECONDS.fullmatch(str(item.get("runtime")))
        found.append((float(match[1]) if match else None, item["solution"]))
    return found


def _prompt(row: Row) -> str:
    content = row.list("pretty_content")
    if not content or not isinstance(content[0], str):
        raise row.error("pretty_content must be a list that begins with the question")
    return f"### Question:\n{content[0]}\n### Code Prompt:\n{row.text('prompt')}\n### Completion:\n"
