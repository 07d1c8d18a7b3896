"""Rows of `enamel.csv`."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from codegen_eval.errors import CodealignError

# Rows that the authors leave out of the benchmark, although they are filled in.
EXCLUDED = frozenset(
    (2, 23, 41, 45, 53, 60, 71, 92, 97, 99, 102, 123, 124, 135, 137, 138, 144, 148, 156, 157, 159, 160)
)
COLUMNS = (
    "task_id",
    "prompt",
    "input_generator",
    "input_levels",
    "reference_solution",
    "checker",
    "entry_point",
)
_MOST = 2**24  # characters of one field


@dataclass(frozen=True, slots=True)
class Row:
    """One task. `sizes` are the generator's arguments, a level each; `number` is the row's, from 0."""

    number: int
    task_id: str
    prompt: str
    generator: str
    sizes: tuple[int, ...]
    reference: str
    checker: str
    entry_point: str


def read_rows(path: Path) -> list[Row]:
    """All rows of a file, the excluded ones too.

    Raises:
        CodealignError: For a file that cannot be read, a missing column or value (row and column are named).
    """
    csv.field_size_limit(_MOST)
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise CodealignError(f"{path}: not ENAMEL's table, it lacks the column {missing[0]!r}")
            return [_row(number, fields, f"{path}: row {number}") for number, fields in enumerate(reader)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CodealignError(f"cannot read {path}: {error}") from None


def _row(number: int, fields: dict[str, str], where: str) -> Row:
    for name in COLUMNS:
        if not fields.get(name):
            raise CodealignError(f"{where}: {name} is empty")
    try:
        sizes = tuple(int(size) for size in fields["input_levels"].split())
    except ValueError:
        sizes = ()
    if len(sizes) != 4:
        raise CodealignError(f"{where}: input_levels must be four sizes, got {fields['input_levels']!r}")
    if not fields["entry_point"].isidentifier():
        raise CodealignError(f"{where}: entry_point {fields['entry_point']!r} is not a name")
    return Row(
        number,
        fields["task_id"],
        fields["prompt"],
        fields["input_generator"],
        sizes,
        fields["reference_solution"],
        fields["checker"],
        fields["entry_point"],
    )
