"""LiveCodeBench (Jain et al. 2024, arXiv 2403.07974), code generation: read from test.jsonl ... test6.jsonl.

A stdin problem is a whole program on input and output, a functional one a method of `class Solution`. Departs
from the released judge in these points:

- A stdin program is run as a process that reads a real standard input, not as a function with a mocked one.
  So it must end with exit status 0, and `sys.stdin.buffer`, `open(0)` and threads work.
- Every functional test calls the method of a new `Solution()`.
- 6 s of CPU hold for each test; there is no limit on all of them together.
- Lines are split and stripped at ASCII white space; `sandbox.comparers.compare_decimal_lines` says the rest.
- The chat text is one message: the system line stands at its head.
- Private tests are read from their pickle without unpickling it.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.rows import Row, collect, file_rows, split_files, with_prelude
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import CallTest, IOTest, Limits

_FILES: tuple[str, ...] = ("test", "test2", "test3", "test4", "test5", "test6")
_RELEASE = re.compile(r"(release_)?v([1-6])(?:_v([1-6]))?")
_WINDOW = re.compile(r"(\d{4}-\d\d-\d\d)?:(\d{4}-\d\d-\d\d)?")
MAX_TESTS = 256 * 2**20
LIMITS = Limits(cpu_seconds=6.0, wall_seconds=24.0, memory_mb=4096)
_STARRED = [
    "string",
    "re",
    "datetime",
    "collections",
    "heapq",
    "bisect",
    "copy",
    "math",
    "random",
    "statistics",
    "itertools",
    "functools",
    "operator",
    "io",
    "sys",
    "json",
    "builtins",
    "typing",
]
_PLAIN = [name for name in _STARRED if name not in ("builtins", "typing")]
PRELUDE = "\n".join(
    [f"from {name} import *" for name in _STARRED]
    + [f"import {name}" for name in _PLAIN]
    + ["sys.setrecursionlimit(50000)"]
)
_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will "
    "generate a correct Python program that matches the specification and passes all tests."
)
_WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your code "
    "within delimiters."
)
_WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
    "the sample inputs). Enclose your code within delimiters as follows. Ensure that when the python program "
    "runs, it reads the inputs, runs the algorithm and writes output to STDOUT."
)
# All that pickle.dumps of a text writes; anything else calls, builds or remembers things.
_OPCODES = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"})
_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})


@BENCHMARKS.register("livecodebench")
def livecodebench(dataset: Path | None, split: str | None) -> list[Problem]:
    """The problems of a file, or of the files of a release in a folder; meta says their date and the window.

    Args:
        dataset: One file, or a folder with test.jsonl, test2.jsonl and so on.
        split: A release (`release_v3` is test.jsonl to test3.jsonl, `v2` test2.jsonl, `v4_v5` both; folders
            only; all files by default), a window of contest dates `2024-05-01:2024-09-01` with either end
            left open or not, or both with a comma between. As in the released code, the end is its day's
            midnight: a contest later on that day is outside.

    Raises:
        CodealignError: For missing data, a split of another form, an empty window, or a broken row; a row's
            private tests that are anything but a packed text are refused by name, and nothing of them runs.
    """
    stems, release, (start, end), window = _parse_split(split)
    if release and dataset is not None and not dataset.is_dir():
        raise CodealignError(f"{dataset} is one file: a release ({release}) is chosen in a folder of files")
    files = split_files("livecodebench", dataset, stems, ())
    inside = [0, 0]

    def rows() -> Iterator[Row]:
        for file in files:
            for row in file_rows(file):
                inside[0] += 1
                date = row.text("contest_date")
                if start <= _date(row, date) <= end:
                    inside[1] += 1
                    yield row

    problems = collect("livecodebench", rows(), partial(_problem, release=release, window=window))
    if not inside[1]:
        raise CodealignError(f"{dataset}: none of the {inside[0]} problems has a contest date in {window}")
    return problems


def _parse_split(split: str | None) -> tuple[tuple[str, ...], str, tuple[datetime, datetime], str]:
    """File stems, release, ends of the window and how it was written."""
    stems, release, window = _FILES, "", ":"
    for part in (split or "").split(",") if split else ():
        if found := _RELEASE.fullmatch(part):
            first, last = (1, found[2]) if found[1] else (found[2], found[3] or found[2])
            stems, release = _FILES[int(first) - 1 : int(last)], part
        elif part == "release_latest":
            release = part
        elif _WINDOW.fullmatch(part) and part != ":":
            window = part
        else:
            raise CodealignError(
                f"livecodebench: split {part!r} is neither a release (release_v1 to release_v6, v2, v4_v5) "
                "nor a window of dates such as 2024-05-01:2024-09-01"
            )
    if not stems:
        raise CodealignError(f"livecodebench: release {release!r} ends before it begins")
    try:
        low, high = (datetime.fromisoformat(text) if text else None for text in window.split(":"))
    except ValueError as error:
        raise CodealignError(f"livecodebench: window {window!r} has no such day ({error})") from None
    ends = (low or datetime.min, high or datetime.max)  # noqa: DTZ901 - contest dates have no zone
    if ends[0] > ends[1]:
        raise CodealignError(f"livecodebench: window {window!r} ends before it begins")
    return stems, release, ends, window


def _date(row: Row, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        raise row.error(f"contest_date {text[:40]!r} is no ISO date") from None


def _problem(row: Row, release: str, window: str) -> Problem | None:
    starter = row.text("starter_code", "")
    name = _function(row)
    cases = _cases(row, "public_test_cases") + private_tests(row)
    if not cases:
        return None
    tests = tuple(_test(row, case, name, number) for number, case in enumerate(cases))
    text = _prompt(row.text("question_content"), starter)
    meta = row.meta("question_title", "platform", "contest_id", "difficulty", "contest_date")
    return Problem(
        task_id=row.name("question_id"),
        prompt=text,
        entry_point=f"Solution.{name}" if name else "",
        tests=tests,
        canonical_solution="",
        continues=False,
        assemble=partial(_assemble, name=name),
        limits=LIMITS,
        meta={**meta, "release": release, "window": window, "extraction": "last"},
    )


def _assemble(source: str, name: str) -> str:
    """Imports, the program, and where it defines the function alone, a class around that: as in the released
    judge.
    """
    whole = with_prelude(PRELUDE, source)
    if name and "class Solution" not in source:
        whole += f"\nclass Solution:\n    {name} = staticmethod({name})\n"
    return whole


def _function(row: Row) -> str:
    """The method's name of a functional problem, else empty."""
    metadata = row.json("metadata", {})
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if name is None:
        return ""
    if not isinstance(name, str) or not name.isidentifier():
        raise row.error(f"metadata: func_name {name!r} is not a name")
    return name


def _prompt(question: str, starter: str) -> str:
    form = (
        f"{_WITH_STARTER}\n```python\n{starter}\n```"
        if starter
        else f"{_WITHOUT_STARTER}\n```python\n# YOUR CODE HERE\n```"
    )
    answer = "### Answer: (use the provided format with backticks)\n\n"
    return f"{_SYSTEM}\n\n### Question:\n{question}\n\n### Format: {form}\n\n{answer}"


def _test(row: Row, case: dict[str, Any], name: str, number: int) -> CallTest | IOTest:
    what = f"test case {number}"
    if not all(isinstance(case.get(key), str) for key in ("input", "output")):
        raise row.error(f"{what} needs input and output as texts")
    if case.get("testtype") != ("functional" if name else "stdin"):
        raise row.error(f"{what} is of type {case.get('testtype')!r}, which does not fit func_name {name!r}")
    if not name:
        return IOTest(case["input"], case["output"], checker="decimal_lines")
    lines = case["input"].split("\n")
    if not all(line.strip() for line in lines):
        raise row.error(f"{what} has an empty line of input; each line is one argument")
    args = tuple(row.parse(line, f"{what}, input") for line in lines)
    try:
        return CallTest(args, row.parse(case["output"], f"{what}, output"), tuple_as_list=True)
    except ValueError as error:
        raise row.error(f"{what} cannot be given to a program: {error}") from None


def _cases(row: Row, key: str, text: str | None = None) -> list[dict[str, Any]]:
    cases = row.parse(row.text(key, "") if text is None else text, key, [])
    if not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise row.error(f"{key!r} must hold a list of test cases")
    return cases


def private_tests(row: Row) -> list[dict[str, Any]]:
    """The private test cases of a row: JSON, or base64 of zlib of a pickled JSON text.

    Raises:
        CodealignError: It is neither, is over 256 MiB, or the pickle holds anything but one text.
    """
    key = "private_test_cases"
    text = row.text(key, "")
    if text.lstrip()[:1] in ("", "["):
        return _cases(row, key, text)
    try:
        packed = base64.b64decode(text, validate=True)
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, MAX_TESTS)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise row.error(f"{key!r} is neither JSON nor packed tests ({error})") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        over = f"takes more than {MAX_TESTS} bytes" if unpacker.unconsumed_tail else "is cut off"
        raise row.error(f"{key!r} {over} when unpacked: it is refused")
    return _cases(row, key, _pickled_text(row, key, data))


def _pickled_text(row: Row, key: str, data: bytes) -> str:
    """The text in a pickle, taken from its opcodes: nothing is unpickled, so nothing can be called."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _TEXTS:
                texts.append(str(argument))
            elif opcode.name not in _OPCODES:
                raise row.error(
                    f"{key!r} is a pickle that does more than hold a text (opcode {opcode.name}): it is "
                    "refused, nothing of it was run"
                )
    except CodealignError:
        raise
    except Exception as error:  # whatever a malformed argument raises
        raise row.error(f"{key!r} is no pickle of a text ({error})") from None
    if len(texts) != 1:
        raise row.error(f"{key!r} is a pickle of {len(texts)} texts; one is needed")
    return texts[0]
