"""JSON lines, read strictly and written so that equal content is equal bytes."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole


def dump_row(row: Mapping[str, Any]) -> bytes:
    """One line of JSON with its newline: sorted keys, UTF-8, no NaN (a ValueError)."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        # Lone surrogates (a "\ud800" escape in somebody's file) have no UTF-8; as escapes they survive.
        return json.dumps(row, sort_keys=True, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def plain(value: Any, *, finite: bool = False) -> Any:
    """Plain data for JSON: paths as text, tuples as lists, numpy numbers and arrays as Python's.

    Args:
        value: Nested mappings, sequences and scalars.
        finite: Turn NaN and infinities into None instead of leaving them for the writer to refuse.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, finite=finite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, finite=finite) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist(), finite=finite)
    if finite and isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a JSON-lines file, gzipped or not; blank lines are skipped.

    Raises:
        CodealignError: If the file is missing or unreadable; for a broken line, "FILE:LINE: what is wrong".
    """
    for _, row in read_numbered(path):
        yield row


def read_numbered(path: Path, *, finite: bool = True) -> Iterator[tuple[int, dict[str, Any]]]:
    """As `read_jsonl`, with the number of each row's line, from 1; NaN and Infinity pass unless `finite`."""
    number = 0
    try:
        with _open(Path(path)) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}", finite)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CodealignError(
            f"{path}:{number + 1}: the compressed data is broken or cut off ({error})"
        ) from None
    except FileNotFoundError:
        raise CodealignError(f"no such file: {path}") from None
    except OSError as error:
        raise CodealignError(f"cannot read {path}: {error.strerror or error}") from None


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows as JSON lines; the file appears only when it is complete."""
    write_whole(Path(path), map(dump_row, rows))


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _parse(line: bytes, where: str, finite: bool) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse_constant if finite else None)
    except UnicodeDecodeError as error:
        raise CodealignError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise CodealignError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise CodealignError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise CodealignError(f"{where}: a JSON object is needed, this is {type(row).__name__}")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
