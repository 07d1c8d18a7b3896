"""Files of benchmarks, row by row, and what their fields must be.

JSON lines, a JSON array (both gzipped or not) and Parquet are told apart by their content. Every error says
the file and the line, or the row where a file has no lines. Nothing downloads.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_numbered
from codegen_eval.records import Problem

Row = dict[str, Any]
Placed = tuple[str, Row]  # "FILE:LINE" and the row
_ENDINGS = (".jsonl", ".json", ".parquet")
_EASY_DIGITS, _MOST_DIGITS = 4000, 30_000  # the sandbox's values have at most 100,000 bits


def files(name: str, dataset: Path | None, hint: str, split: str | None = None) -> list[Path]:
    """The files of a data set, in the order of their names.

    Args:
        name: The benchmark.
        dataset: A file, or a folder of which all data files at any depth are taken.
        hint: The usual name of its file, for the error.
        split: Keep the files with this in their names.

    Raises:
        CodealignError: Without a data set, if nothing is there, or no file has the split in its name.
    """
    if dataset is None:
        raise CodealignError(f"{name} is not shipped: give its file, --dataset PATH/{hint}")
    path = Path(dataset)
    found = [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.name.removesuffix(".gz").endswith(_ENDINGS))
    elif not path.exists():
        raise CodealignError(f"no such file: {path}")
    chosen = [p for p in found if split is None or split in p.name]
    if not chosen:
        there = ", ".join(p.name for p in found[:5]) or "no file that ends with " + ", ".join(_ENDINGS)
        asked = "" if split is None else f"nothing of split {split!r}, "
        raise CodealignError(f"{name}: {path} has {asked}there is {there}; the usual file is {hint}")
    return chosen


def rows(path: Path) -> Iterator[Placed]:
    """The rows of one file, each with where it stands.

    Raises:
        CodealignError: For a broken file, a row that is no object, Parquet without pyarrow.
    """
    try:
        first = _first_bytes(path)
    except FileNotFoundError:
        raise CodealignError(f"no such file: {path}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CodealignError(f"cannot read {path}: {error}") from None
    if first.startswith(b"PAR1"):
        yield from _parquet(path)
    elif first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _array(path)
    else:
        for line, row in read_numbered(path, finite=False):
            yield f"{path}:{line}", row


def problems(placed: Iterable[Placed], make: Callable[[Row, str], Problem]) -> list[Problem]:
    """The problems that `make` makes of rows and where they stand; a task id that comes twice is refused."""
    found: dict[str, Problem] = {}
    for where, row in placed:
        problem = make(row, where)
        if problem.task_id in found:
            raise CodealignError(f"{where}: task id {problem.task_id!r} occurs twice")
        found[problem.task_id] = problem
    return list(found.values())


def read(
    name: str,
    dataset: Path | None,
    hint: str,
    make: Callable[[Row, str], Problem],
    split: str | None = None,
) -> list[Problem]:
    """`problems` of all rows of all `files`."""
    found = files(name, dataset, hint, split)
    return problems((placed for path in found for placed in rows(path)), make)


def only_split(name: str, split: str | None, known: str = "test") -> None:
    """Refuses a split other than the one there is."""
    if split not in (None, known):
        raise CodealignError(f"{name} has only the split {known!r}, not {split!r}")


def text(row: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must be text."""
    value = row.get(key)
    if not isinstance(value, str):
        raise CodealignError(f"{where}: the text field {key!r} is {_instead(row, key)}")
    return value


def texts(row: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A field that must be a list of texts."""
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise CodealignError(f"{where}: {key!r}, a list of texts, is {_instead(row, key)}")
    return tuple(value)


def whole(row: Mapping[str, Any], key: str, where: str) -> int:
    """A field that must be a whole number."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise CodealignError(f"{where}: the whole number {key!r} is {_instead(row, key)}")
    return value


def name_of(row: Mapping[str, Any], key: str, where: str) -> str:
    """A field that must be the name of a function."""
    value = text(row, key, where)
    if not value.isidentifier():
        raise CodealignError(f"{where}: {key} {value!r} is not a name")
    return value


def _instead(row: Mapping[str, Any], key: str) -> str:
    if key in row:
        shown = repr(row[key])
        return shown if len(shown) <= 60 else shown[:57] + "..."
    return f"missing; there are {', '.join(sorted(map(str, row))) or 'no fields'}"


def whole_number(text: str) -> int:
    """An integer of JSON; Python itself reads no more than 4,300 digits.

    Raises:
        ValueError: It has more digits than the sandbox's values can have.
    """
    if len(text) <= _EASY_DIGITS:
        return int(text)
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {_MOST_DIGITS} are read")
    return int(Decimal(text))


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        first = file.read(64)
    if first.startswith(b"\x1f\x8b"):
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(64)
    return first


def _array(path: Path) -> Iterator[Placed]:
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        values = json.loads(text, parse_int=whole_number)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise CodealignError(f"{path}: not a JSON array: not valid JSON ({error})") from None
    for number, row in enumerate(values, 1):
        if not isinstance(row, dict):
            raise CodealignError(f"{path}: row {number} is {type(row).__name__}; a JSON object is needed")
        yield f"{path}: row {number}", row


def _parquet(path: Path) -> Iterator[Placed]:
    try:
        import pyarrow  # type: ignore[import-untyped]
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CodealignError(
            f"{path} is Parquet, for which pyarrow is needed: pip install pyarrow, or give JSON lines"
        ) from None
    number = 0
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(256):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise CodealignError(f"cannot read {path}: broken Parquet ({error})") from None
