"""Preference data from files, checked row by row: pairs (DPO and its family), labelled completions (KTO)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_eval.errors import CodealignError, unknown
from codegen_eval.jsonl import read_jsonl

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("prompt", "chosen", "rejected")
LABELLED = ("prompt", "completion", "label")
MADE = "dataset"
"""What a run of `codealign generate-data` calls the folder with its splits."""
PER_TOKEN = ("mask", "segments")
"""Columns of pre-tokenised pairs, `chosen_mask` and so on, with one entry for each token of the side."""


def load_pairs(name: str, split: str = "train", extra: Sequence[str] = ()) -> Dataset:
    """Pairs from a JSONL file, a folder that holds pairs.jsonl, a folder of Parquet files (as `codealign
    generate-data` makes), a saved `datasets` folder, or a hub id.

    Args:
        name: Where the pairs are.
        split: Which split, for a hub id or a saved folder with several.
        extra: Columns of numbers that are wanted besides (`confidence`, a weight).

    Raises:
        CodealignError: If nothing is there, columns are missing, or a pair has an empty or equal sides.
    """
    return checked(load(name, split, "pairs.jsonl"), name, extra)


def load_labelled(name: str, split: str = "train", extra: Sequence[str] = ()) -> Dataset:
    """Labelled completions (`prompt`, `completion`, `label`); a folder may hold kto.jsonl.

    Raises:
        CodealignError: If nothing is there, columns are missing, a completion is empty or a label is no
            boolean.
    """
    dataset = load(name, split, "kto.jsonl")
    columns = ids_of(LABELLED[:2]) if _has_ids(dataset) else LABELLED[:2]
    _need(dataset, [*columns, "label", *extra], name)
    dataset = dataset.select_columns([*columns, "label", *extra])
    for i, row in enumerate(dataset):
        where = f"{name}, row {i}"
        _check_sides(row, columns, where)
        if not isinstance(row["label"], bool):
            raise CodealignError(f"{where}: label is {row['label']!r}, not true or false")
        _check_numbers(row, extra, where)
    return dataset


def load(name: str, split: str, file: str) -> Dataset:
    """The raw rows of a data set; `file` is what a run directory keeps them in.

    Raises:
        CodealignError: If nothing is there, it cannot be read, or it has no such split.
    """
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    path = Path(name)
    if (path / MADE).is_dir():  # its pairs.jsonl holds the pairs that were put aside for testing, too
        path = path / MADE
    elif (path / file).is_file():
        path = path / file
    if path.is_file():
        # Our reader names the line that is broken; the library's message is a chain of tracebacks.
        if path.suffix != ".json" and not sum(1 for _ in read_jsonl(path)):
            raise CodealignError(f"{name} holds no pair")
        try:
            return load_dataset("json", data_files=str(path), split="train")
        except DatasetGenerationError as error:
            raise CodealignError(f"{name}: not preference data: {error.__cause__ or error}") from None
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        saved = load_from_disk(str(path))
        return _split(saved, split, name) if isinstance(saved, dict) else saved
    if path.is_dir() and any(path.rglob("*.parquet")):
        return _split(load_dataset(str(path)), split, name)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CodealignError(f"no such preference data: {name}")
    return load_dataset(name, split=split)


def _split(found: Mapping[str, Dataset], split: str, name: str) -> Dataset:
    if split not in found:
        raise unknown(f"split of {name}", split, found)
    return found[split]


def ids_of(columns: Sequence[str]) -> tuple[str, ...]:
    """What the columns are called when they hold token ids."""
    return tuple(f"{column}_ids" for column in columns)


def checked(dataset: Dataset, name: str, extra: Sequence[str] = ()) -> Dataset:
    """The dataset with its sides (texts, or token ids where it has those) and what training reads of it.

    Raises:
        CodealignError: As `load_pairs`.
    """
    columns = ids_of(COLUMNS) if _has_ids(dataset) else COLUMNS
    _need(dataset, [*columns, *extra], name)
    sides = ("chosen", "rejected")
    optional = [f"{side}_{what}" for what in PER_TOKEN for side in sides] if columns != COLUMNS else []
    for one, other in zip(optional[::2], optional[1::2], strict=True):
        if (one in dataset.column_names) != (other in dataset.column_names):
            raise CodealignError(f"{name} has one of the columns {one} and {other}; it needs both or none")
    if columns == COLUMNS:
        optional = ["prefix_chars", "suffix_chars"]
    optional = [column for column in optional if column in dataset.column_names]
    dataset = dataset.select_columns([*columns, *optional, *extra])
    for i, row in enumerate(dataset):
        where = f"{name}, pair {i}"
        _check_sides(row, columns, where)
        if row[columns[1]] == row[columns[2]]:
            raise CodealignError(f"{where}: chosen and rejected are equal")
        _check_numbers(row, extra, where)
        for column in optional:
            if column not in ("prefix_chars", "suffix_chars"):
                _check_per_token(row, column, where)
    return dataset


def _has_ids(dataset: Dataset) -> bool:
    return "prompt_ids" in dataset.column_names


def _need(dataset: Dataset, columns: Sequence[str], name: str) -> None:
    missing = [column for column in columns if column not in dataset.column_names]
    if missing:
        raise CodealignError(
            f"{name} lacks the column(s) {', '.join(missing)}; found: {', '.join(dataset.column_names)}"
        )
    if not len(dataset):
        raise CodealignError(f"{name} holds no pair")


def _check_sides(row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
    """Texts, or lists of token ids; the sides after the first column, the prompt, are not empty."""
    for column in columns:
        value = row[column]
        if column.endswith("_ids"):
            if not isinstance(value, list) or not all(isinstance(x, int) and x >= 0 for x in value):
                raise CodealignError(f"{where}: {column} is no list of token ids")
        elif not isinstance(value, str):
            raise CodealignError(f"{where}: {column} is no text")
    for column in columns[1:]:
        if not row[column]:
            raise CodealignError(f"{where}: a side is empty ({column})")


def _check_numbers(row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
    for column in columns:
        value = row[column]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise CodealignError(f"{where}: {column} is {value!r}, not a finite number")
        if value < 0:
            raise CodealignError(f"{where}: {column} is {value}, it must not be negative")


def _check_per_token(row: Mapping[str, Any], column: str, where: str) -> None:
    side = column.partition("_")[0]
    values, tokens = row[column], len(row[f"{side}_ids"])
    if not isinstance(values, list) or len(values) != tokens:
        found = len(values) if isinstance(values, list) else repr(values)
        raise CodealignError(
            f"{where}: {column} needs one entry for each of {tokens} tokens (found: {found})"
        )
    if column.endswith("_mask") and not any(values):
        raise CodealignError(f"{where}: {column} leaves no token that counts")
