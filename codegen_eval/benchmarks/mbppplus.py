"""MBPP+ (Liu et al. 2023, arXiv 2305.01210): 378 tasks of MBPP with 35 times the inputs.

Two forms, told apart row by row:

- the release's (`MbppPlus.jsonl.gz`): inputs, and right is what the canonical solution answers.
  `meta["groups"]` says which tests are the base ones and which the added ones. JSON has lost tuples, sets and
  complex numbers of the inputs; `mbpp_asserts.py` puts them back. Fifteen tasks have oracles of their own
  (`evalplus.py`): any order, any answer but None, a second reading of the text;
- the hub's (`evalplus/mbppplus`): code, asserts and a test with inputs and results inside; task ids become
  `Mbpp/N`. The real one needs numpy in the box (`meta["needs"]`); 10 s; no groups.

Limits of the release's form: as HumanEval+.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks import evalplus, fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.mbpp_asserts import called, literal_calls, restored
from codegen_eval.benchmarks.needs import imported
from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from sandbox import CodeTest, Limits

_HUB_LIMITS = Limits(cpu_seconds=10.0, wall_seconds=40.0, memory_mb=4096)


@BENCHMARKS.register("mbppplus")
def mbppplus(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of an MBPP+ file, in its order.

    Args:
        dataset: The release's JSON lines, or the hub's Parquet or JSON lines.
        split: There is only "test".

    Raises:
        CodealignError: Without a file, for a row that is no row of MBPP+, for another split.
    """
    fields.only_split("mbppplus", split)
    return fields.read("mbppplus", dataset, "MbppPlus.jsonl.gz", _problem)


def _problem(row: fields.Row, where: str) -> Problem:
    return _release(row, where) if "plus_input" in row else _hub(row, where)


def typed_inputs(
    row: fields.Row, keys: tuple[str, ...], asserts: str, entry_point: str, where: str
) -> list[list[tuple[Any, ...]]]:
    """The inputs in some fields of a row, with the types that its asserts show."""
    calls = literal_calls(asserts, entry_point)
    return [restored(evalplus.inputs(row, key, where), calls) for key in keys]


def _release(row: fields.Row, where: str) -> Problem:
    prompt = fields.text(row, "prompt", where)
    canonical = fields.text(row, "canonical_solution", where)
    entry_point = fields.name_of(row, "entry_point", where)
    asserts = fields.text(row, "assertion", where)
    base, plus = typed_inputs(row, ("base_input", "plus_input"), asserts, entry_point, where)
    return Problem(
        task_id=fields.text(row, "task_id", where),
        prompt=prompt,
        entry_point=entry_point,
        tests=(),
        canonical_solution=canonical,
        oracle=Oracle(
            evalplus.reference(prompt + canonical, entry_point, mbpp=True),
            tuple(base + plus),
            judge=evalplus.judge(entry_point, evalplus.tolerance(row, where), mbpp=True),
        ),
        stop=evalplus.STOP_MBPP,
        limits=evalplus.LIMITS,
        chat=evalplus.chat(prompt),
        meta={"groups": evalplus.groups(base, plus)},
    )


def _hub(row: fields.Row, where: str) -> Problem:
    code = fields.text(row, "code", where)
    asserts = fields.texts(row, "test_list", where)
    if not asserts:
        raise CodealignError(f"{where}: test_list is empty")
    prompt = f'"""\n{fields.text(row, "prompt", where)}\n{asserts[0]}\n"""\n'
    test = "\n".join((*_imports(row, where), fields.text(row, "test", where)))
    return Problem(
        task_id=f"Mbpp/{fields.whole(row, 'task_id', where)}",
        prompt=prompt,
        entry_point=called(code, asserts, where),
        tests=(CodeTest(test, trusted=True),),
        canonical_solution=code,
        stop=evalplus.STOP_MBPP,
        limits=_HUB_LIMITS,
        chat=evalplus.chat(prompt),
        meta={"needs": imported(test, code)},
    )


def _imports(row: fields.Row, where: str) -> tuple[str, ...]:
    """`test_imports`: a list, or one written as text."""
    value = row.get("test_imports", [])
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (SyntaxError, ValueError, RecursionError):
            raise CodealignError(f"{where}: test_imports {value!r} is not a list of texts") from None
    return fields.texts({"test_imports": value}, "test_imports", where)
