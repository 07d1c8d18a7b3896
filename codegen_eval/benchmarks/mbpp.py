"""MBPP (Austin et al. 2021, arXiv 2108.07732), sanitised and full, read from its files.

The sanitised file is a JSON array (427 tasks: `prompt`, `test_imports`), the full one JSON lines (974 tasks:
`text`, `test_setup_code`, `challenge_test_list`); the hub's Parquet has the same fields. Splits are ranges of
task ids: prompt 1-10, test 11-510, validation 511-600, train from 601; without a split all are read.

A task's text names no function, so its asserts are shown. A model without chat continues a docstring of the
text and the first assert (Fried et al. 2022, InCoder), a chat model is asked in the words of Austin et al.,
with all asserts and without their three examples. What is run: imports or set-up code, the answer, all
asserts in one test; the challenge asserts of the full set are not run, as usual.

Limit: 8 s of CPU. Neither paper states one; the slowest reference, of task 123, takes 5 to 9 s by the core.
"""

from __future__ import annotations

import functools
from pathlib import Path

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.mbpp_asserts import called
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601)}
SPLITS["train"] = range(601, 975)
_STOP = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")
_LIMITS = Limits(cpu_seconds=8.0, wall_seconds=32.0)


@BENCHMARKS.register("mbpp")
def mbpp(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of an MBPP file, in its order.

    Args:
        dataset: sanitized-mbpp.json, mbpp.jsonl, or the hub's Parquet.
        split: prompt, test, validation or train; None for all.

    Raises:
        CodealignError: Without a file, for a row that is no row of MBPP, for another split.
    """
    if split is not None and split not in SPLITS:
        raise unknown("split of mbpp", split, SPLITS)
    found = fields.read("mbpp", dataset, "sanitized-mbpp.json", _problem)
    return [problem for problem in found if split is None or problem.meta["number"] in SPLITS[split]]


def _problem(row: fields.Row, where: str) -> Problem:
    full = "text" in row
    text = fields.text(row, "text" if full else "prompt", where).strip()
    code = fields.text(row, "code", where).replace("\r\n", "\n")
    asserts = fields.texts(row, "test_list", where)
    if not asserts:
        raise CodealignError(f"{where}: test_list is empty")
    number = fields.whole(row, "task_id", where)
    setup = [fields.text(row, "test_setup_code", where)] if full else fields.texts(row, "test_imports", where)
    before = "\n".join(setup).replace("\r\n", "\n").strip()
    prompt = f'"""\n{text}\n{asserts[0]}\n"""\n'
    return Problem(
        task_id=f"Mbpp/{number}",
        prompt=prompt,
        entry_point=called(code, asserts, where),
        tests=(CodeTest("\n".join((before, *asserts)), trusted=True),),
        canonical_solution=code,
        stop=_STOP,
        assemble=functools.partial(_behind, before) if before and not full else None,
        limits=_LIMITS,
        chat=_chat(text, asserts),
        meta={"number": number},
    )


def _chat(text: str, asserts: tuple[str, ...]) -> str:
    return (
        f"You are an expert Python programmer, and here is your task: {text} "
        "Your code should pass these tests:\n\n" + "\n".join(asserts) + "\n"
    )


def _behind(imports: str, source: str) -> str:
    """The source behind the imports of its tests, which some solutions use."""
    return f"{imports}\n{source}"
