"""MultiPL-E (Cassano et al. 2022, arXiv 2208.08227): HumanEval and MBPP in other languages.

A program is the prompt, a completion cut at the first of the row's stop texts, and the row's tests; it passes
when it builds and ends with status 0 within 15 s. In C++, JavaScript and Java the tests are part of the
program and share its process, so a program can forge a pass and the result says `verdict_trust="forgeable"`;
Python's tests run outside. Solutions are put before the tests as they stand: stop texts and tests of C++ and
Java share the closing bracket, so give completions there.

Rows have no reference solutions. Java prompts import `org.javatuples`, which is no part of Java: the line is
left out where nothing of it is used, else the task cannot be run (`meta["needs"]`).

Departs in: CPU seconds instead of wall time, and compiling has a limit of its own.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.errors import CodealignError
from codegen_eval.extraction import parse_statements
from codegen_eval.records import Problem
from sandbox import CodeTest, Limits

LANGUAGES = {"py": "python", "cpp": "cpp", "js": "javascript", "java": "java"}
_LIMITS = Limits(cpu_seconds=15.0, wall_seconds=60.0)
_TUPLES = "org.javatuples"
_TUPLE_CLASS = re.compile(r"\b(Unit|Pair|Triplet|Quartet|Quintet|Sextet|Septet|Octet|Ennead|Decade)\b")


@BENCHMARKS.register("multipl_e")
def multipl_e(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a MultiPL-E file, in its order.

    Args:
        dataset: A file of one configuration (as humaneval-js), or a folder of several.
        split: A configuration, as "humaneval-cpp": the files with it in their names; None for all.

    Raises:
        CodealignError: Without a file, for a row that is no row of MultiPL-E, or of a language that the
            sandbox does not run.
    """
    return fields.read("multipl_e", dataset, "humaneval-js.jsonl", _problem, split)


def _problem(row: fields.Row, where: str) -> Problem:
    prompt, tests, name, short = (
        fields.text(row, key, where) for key in ("prompt", "tests", "name", "language")
    )
    if short not in LANGUAGES:
        raise CodealignError(
            f"{where}: programs in language {short!r} are not run; those in {', '.join(LANGUAGES)} are"
        )
    python = short == "py"
    drop = short == "java" and not _TUPLE_CLASS.search(prompt + tests)
    needs = (_TUPLES,) if short == "java" and not drop and _TUPLES in prompt else ()
    return Problem(
        task_id=f"{name}/{short}",
        prompt=prompt,
        entry_point=_last_function(prompt, where) if python else "",
        tests=(CodeTest(tests, trusted=python, in_process=not python),),
        canonical_solution="",
        stop=fields.texts(row, "stop_tokens", where),
        assemble=functools.partial(re.sub, rf"(?m)^import {re.escape(_TUPLES)}\..*$", "") if drop else None,
        language=LANGUAGES[short],
        limits=_LIMITS,
        meta={"needs": needs},
    )


def _last_function(prompt: str, where: str) -> str:
    for ending in ("", "\n    pass\n"):
        body = parse_statements(prompt + ending) or []
        names = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        if names:
            return names[-1]
    raise CodealignError(f"{where}: the prompt does not begin a function")
