"""Rows of benchmark files, with checked fields, for readers of programs on input and output and of classes.

Files are JSON lines, gzipped or not, a JSON array, or Parquet; a folder holds one or more of a split. Nothing
downloads, no loading script is run, and nothing in a row is ever evaluated or unpickled.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.benchmarks import fields
from codegen_eval.benchmarks.fields import whole_number
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem

_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_FUTURE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*((?:from __future__ import [^\n(\\]+\n)+)")


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands, "FILE:LINE"."""

    values: Mapping[str, Any]
    where: str

    def error(self, what: str) -> CodealignError:
        """The error that names the row."""
        return CodealignError(f"{self.where}: {what}")

    def text(self, key: str, default: str | None = None) -> str:
        """A text; `default` where the field is absent or null.

        Raises:
            CodealignError: It is no text, or absent without a default.
        """
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.error(f"the text field {key!r} is {'missing' if value is None else _kind(value)}")
        return value

    def name(self, key: str) -> str:
        """A text that can be a task id: not empty, on one line."""
        value = self.text(key)
        if not value.strip() or "\n" in value:
            raise self.error(f"{key} {value[:60]!r} is no name")
        return value

    def list(self, key: str) -> list[Any]:
        """A list; empty where the field is absent or null."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.error(f"{key!r} must be a list, it is {_kind(value)}")
        return value

    def json(self, key: str, default: Any = None) -> Any:
        """What the JSON inside a text field says; `default` where that is empty, absent or null."""
        return self.parse(self.text(key, ""), key, default)

    def parse(self, text: str, what: str, default: Any = None) -> Any:
        """What a JSON text of this row says; numbers may have more digits than Python reads by itself."""
        if not text.strip():
            return default
        try:
            return json.loads(text, parse_int=whole_number)
        except RecursionError:
            raise self.error(f"the JSON in {what!r} is nested too deeply") from None
        except ValueError as error:
            raise self.error(f"{what!r} is not valid JSON ({error})") from None

    def meta(self, *keys: str) -> dict[str, Any]:
        """Those of the fields that the row has and that are not null."""
        return {key: self.values[key] for key in keys if self.values.get(key) is not None}


def read_rows(benchmark: str, dataset: Path | None, split: str, *, known: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a file, or of the files of a split in a folder (those whose names begin with it).

    Args:
        benchmark: For messages.
        dataset: File, or folder (its subfolder `data` is looked into too).
        split: One of `known`.
        known: The benchmark's splits, the default first.

    Raises:
        CodealignError: Without data, for another split, a folder without files of the split, a file that
            bears another split's name, or anything that cannot be read.
    """
    if split not in known:
        raise CodealignError(f"{benchmark} has the splits {', '.join(known)}, not {split!r}")
    for path in split_files(benchmark, dataset, (split,), known):
        yield from file_rows(path)


def split_files(
    benchmark: str, dataset: Path | None, stems: tuple[str, ...], known: tuple[str, ...]
) -> list[Path]:
    """The data files that `stems` name, in order; `dataset` itself where it is a file."""
    if dataset is None:
        raise CodealignError(f"{benchmark} is not shipped: give its file or folder, --dataset PATH")
    if not dataset.is_dir():
        named = [split for split in known if _of_split(dataset.name, split)]
        if named and not any(stem in named for stem in stems):
            raise CodealignError(
                f"{dataset} is of the split {named[0]!r}: give that, or the file of {stems[0]!r}"
            )
        return [dataset]
    folders = [folder for folder in (dataset, dataset / "data") if folder.is_dir()]
    files = sorted(file for folder in folders for file in folder.iterdir() if file.name.endswith(_ENDINGS))
    found = [file for stem in stems for file in files if _of_split(file.name, stem)]
    if not found:
        there = ", ".join(file.name for file in files[:10]) or "none"
        raise CodealignError(
            f"{dataset} has no file of {' or '.join(stems)} ({', '.join(_ENDINGS)}); files there: {there}"
        )
    return found


def file_rows(path: Path) -> Iterator[Row]:
    """The rows of one file, of any form that `fields.rows` knows.

    Raises:
        CodealignError: A file that is missing, unreadable, of another form, or holds no objects.
    """
    for where, values in fields.rows(path):
        yield Row(values, where)


def collect(benchmark: str, rows: Iterator[Row], problem: Callable[[Row], Problem | None]) -> list[Problem]:
    """The problems that rows become, in order; rows that become None have no tests, and a warning counts
    them.

    Raises:
        CodealignError: Two rows have one task id.
    """
    found: dict[str, Problem] = {}
    left_out = 0
    for row in rows:
        made = problem(row)
        if made is None:
            left_out += 1
        elif made.task_id in found:
            raise row.error(f"task id {made.task_id!r} occurs twice")
        else:
            found[made.task_id] = made
    if left_out:
        total = left_out + len(found)
        warnings.warn(
            f"{benchmark}: {left_out} of {total} rows cannot be judged and are left out", stacklevel=3
        )
    return list(found.values())


def with_prelude(prelude: str, source: str) -> str:
    """A program with imports before it; its own `from __future__` lines at the very top stay first."""
    found = _FUTURE.match(source)
    if found is None:
        return f"{prelude}\n{source}"
    return f"{found[1]}{prelude}\n{source[found.end() :]}"


def _of_split(name: str, split: str) -> bool:
    return re.match(rf"{re.escape(split)}(?![A-Za-z0-9])", name) is not None


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
