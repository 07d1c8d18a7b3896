"""APPS (Hendrycks et al. 2021, arXiv 2105.09938): `apps` judges as the released evaluator does, `apps_strict`
does not let wrong order and repetitions pass.

Departs from the released judge (eval/testing_util.py) in these points:

- A stdin program is run as a process that reads a real standard input, not as a function with a mocked one.
  So it must end with exit status 0.
- Where the program has a `class Solution`, every call makes a new instance.
- numpy is imported for programs only where the sandbox was given it: Sandbox(libraries=("numpy",)).
- Rows without tests are left out and counted; the released judge skips them too.
- `apps_strict` compares lines as LiveCodeBench does, and takes a call's answer only where it equals the
  expected one, or what that holds where it is a list of one item: in many rows it is nested once too deep.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.rows import Row, collect, read_rows, with_prelude
from codegen_eval.records import Problem
from sandbox import CodeTest, IOTest, Limits

_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
LIMITS = Limits(cpu_seconds=4.0, wall_seconds=16.0, memory_mb=1024)
PRELUDE = """
import sys
import time
import itertools
from itertools import accumulate, product, permutations, combinations
import collections
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
import math
from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2
import fractions
from typing import List, Tuple
try:
    import numpy as np
except ImportError:
    pass
import random
import heapq
from heapq import *
stdin, stdout = sys.stdin, sys.stdout
"""
# What a call may answer: {loose} is True for what the released judge accepts.
_CALL = """
import json, sys
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)
ARGUMENTS, EXPECTED = json.loads({case!r})
def with_numbers(value):
    return {{int(key): item for key, item in value.items()}}
if {keys!r}[0]:
    ARGUMENTS[0] = with_numbers(ARGUMENTS[0])
if {keys!r}[1]:
    EXPECTED = [with_numbers(EXPECTED)] if isinstance(EXPECTED, dict) else [with_numbers(EXPECTED[0])]
def check(candidate):
    answer = candidate(*ARGUMENTS)
    if isinstance(answer, tuple):
        answer = list(answer)
    accepted = [EXPECTED]
    if isinstance(EXPECTED, list) and EXPECTED and ({loose!r} or len(EXPECTED) == 1):
        accepted.append(EXPECTED[0])
    right = answer in accepted
    if {loose!r} and not right and isinstance(answer, list) and answer and isinstance(answer[0], tuple):
        right = len(accepted) > 1 and [list(item) for item in answer] == EXPECTED[0]
    assert right, "the answer is not the expected one"
"""


@BENCHMARKS.register("apps")
def apps(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file or folder, judged as by the released evaluator: what it accepts in wrong order
    or repeated passes here too.

    Args:
        dataset: JSON lines or Parquet, or a folder with test.jsonl and train.jsonl.
        split: "test" (default) or "train".

    Raises:
        CodealignError: For missing data, another split, or a broken row (file and line).
    """
    return read(dataset, split, "apps")


def read(dataset: Path | None, split: str | None, checker: str) -> list[Problem]:
    """The problems with a comparer of outputs: "apps", which is the benchmark's own, or another, which also
    makes the comparison of calls strict.
    """
    rows = read_rows("apps", dataset, split or "test", known=("test", "train"))
    return collect("apps", rows, partial(_problem, checker=checker))


def _problem(row: Row, checker: str) -> Problem | None:
    number = row.values.get("problem_id", row.values.get("id"))
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise row.error(f"needs a problem_id (a number), got {number!r}")
    return pairs_problem(row, f"APPS/{number}", checker, row.meta("difficulty", "url"))


def pairs_problem(
    row: Row, task_id: str, checker: str, meta: dict[str, Any], tolerance: float = 1e-6
) -> Problem | None:
    """A problem of the form that APPS and TACO share; None for a row without tests."""
    function, inputs, outputs = _input_output(row)
    if not inputs:
        return None
    if function:
        tests: list[CodeTest | IOTest] = [
            call_test(row, function, pair, loose=checker == "apps")
            for pair in zip(inputs, outputs, strict=True)
        ]
    else:
        tests = [
            IOTest(_lines(row, given), _lines(row, wanted), checker=checker, tolerance=tolerance)
            for given, wanted in zip(inputs, outputs, strict=True)
        ]
    solutions = _solutions(row)
    return Problem(
        task_id=task_id,
        prompt=_prompt(row, function),
        entry_point=function,
        tests=tuple(tests),
        canonical_solution=solutions[0] if solutions else "",
        continues=False,
        assemble=partial(assemble, function=function),
        limits=LIMITS,
        meta={**meta, "checker": checker, "solutions": solutions},
    )


def assemble(source: str, function: str) -> str:
    """Imports, the program, and where it has the function in a class, a function that calls that."""
    whole = with_prelude(PRELUDE, source)
    if function and "class Solution" in source:
        whole += f"\ndef {function}(*args):\n    return Solution().{function}(*args)\n"
    return whole


def call_test(row: Row, function: str, pair: tuple[Any, Any], *, loose: bool) -> CodeTest:
    """One call and its answer. JSON knows only texts as keys: a dict that is the first argument, the answer
    or the answer's first item has numbers as keys again, where all of them are such.

    Raises:
        CodealignError: The arguments are no list.
    """
    arguments, expected = pair
    if not isinstance(arguments, list):
        raise row.error(
            f"input_output: the input of {function} must be a list of arguments, got {arguments!r:.60}"
        )
    keys = [_number_keys(arguments), _number_keys(expected if isinstance(expected, list) else [expected])]
    keys[0] = keys[0] and len(arguments) == 1
    case = _encode([arguments, expected])
    return CodeTest(_CALL.format(case=case, keys=keys, loose=loose), trusted=True)


def _encode(value: Any) -> str:
    """JSON, with whole numbers of more digits than `json.dumps` writes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_encode, value)) + "]"
    if isinstance(value, int) and value.bit_length() > 10_000:
        return str(Decimal(value))
    return json.dumps(value)


def _number_keys(values: list[Any]) -> bool:
    """Whether the first value is a dict whose keys are all whole numbers."""
    first = values[0] if values else None
    return isinstance(first, dict) and bool(first) and all(_WHOLE.fullmatch(key) for key in first)


def _input_output(row: Row) -> tuple[str, list[Any], list[Any]]:
    """Function to call ("" for a whole program), inputs and outputs."""
    found = row.json("input_output", {})
    if not isinstance(found, dict):
        raise row.error("input_output must hold an object with inputs and outputs")
    inputs, outputs = found.get("inputs") or [], found.get("outputs") or []
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise row.error("input_output: inputs and outputs must be lists of one length")
    function = found.get("fn_name") or ""
    if not isinstance(function, str) or (function and not function.isidentifier()):
        raise row.error(f"input_output: fn_name {function!r} is not a name")
    return function, inputs, outputs


def _lines(row: Row, value: Any) -> str:
    """A text, or the lines of a list."""
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, list | dict) or item is None for item in items):
        raise row.error(
            f"input_output: an input or output must be a text or a list of lines, got {value!r:.60}"
        )
    return "\n".join(item if isinstance(item, str) else _encode(item) for item in items)


def _solutions(row: Row) -> list[str]:
    found = row.json("solutions", [])
    if not isinstance(found, list) or not all(isinstance(source, str) for source in found):
        raise row.error("solutions must hold a list of programs")
    return found


def _prompt(row: Row, function: str) -> str:
    starter = row.text("starter_code", "")
    form = "Use Call-Based format" if function else "Use Standard Input format"
    return f"\nQUESTION:\n{row.text('question')}\n{starter}\n{form}\nANSWER:\n"
