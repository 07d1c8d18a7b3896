"""Preference pairs from files to tokens.

Prompt and completion are tokenised apart, as they were when the completion was sampled: joint tokenisation
could merge the prompt's last character with the completion's first ones and train on tokens that the model
never sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("prompt", "chosen", "rejected")


def load_pairs(name: str, split: str = "train") -> Dataset:
    """Pairs from a JSONL file, a folder that holds pairs.jsonl, a saved `datasets` folder, or a hub id.

    Raises:
        CodealignError: If nothing is there, columns are missing, or a pair has an empty or equal sides.
    """
    from datasets import load_dataset, load_from_disk
    from datasets.exceptions import DatasetGenerationError

    path = Path(name)
    if (path / "pairs.jsonl").is_file():
        path = path / "pairs.jsonl"
    if path.is_file():
        # Our reader names the line that is broken; the library's message is a chain of tracebacks.
        if path.suffix != ".json" and not sum(1 for _ in read_jsonl(path)):
            raise CodealignError(f"{name} holds no pair")
        try:
            dataset = load_dataset("json", data_files=str(path), split="train")
        except DatasetGenerationError as error:
            raise CodealignError(f"{name}: not preference data: {error.__cause__ or error}") from None
    elif (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        saved = load_from_disk(str(path))
        dataset = saved[split] if isinstance(saved, dict) else saved
    elif path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CodealignError(f"no such preference data: {name}")
    else:
        dataset = load_dataset(name, split=split)
    return checked(dataset, name)


def checked(dataset: Dataset, name: str) -> Dataset:
    """The dataset with its text columns alone.

    Raises:
        CodealignError: As `load_pairs`.
    """
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise CodealignError(
            f"{name} lacks the column(s) {', '.join(missing)}; found: {', '.join(dataset.column_names)}"
        )
    if not len(dataset):
        raise CodealignError(f"{name} holds no pair")
    dataset = dataset.select_columns(list(COLUMNS))
    for i, row in enumerate(dataset):
        for column in COLUMNS:
            if not isinstance(row[column], str):
                raise CodealignError(f"{name}, pair {i}: {column} is no text")
        if row["chosen"] == row["rejected"]:
            raise CodealignError(f"{name}, pair {i}: chosen and rejected are equal")
        if not row["chosen"] or not row["rejected"]:
            raise CodealignError(f"{name}, pair {i}: a side is empty")
    return dataset


def encode_pair(row: dict[str, str], tokenizer: Any) -> dict[str, list[int]]:
    """Token ids of the three texts; both sides end with the end token."""
    sides = {
        f"{side}_ids": [*tokenizer.encode(row[side], add_special_tokens=False), tokenizer.eos_token_id]
        for side in ("chosen", "rejected")
    }
    return {"prompt_ids": list(tokenizer.encode(row["prompt"])), **sides}


def encode_pairs(dataset: Dataset, tokenizer: Any, max_length: int | None) -> tuple[Dataset, int]:
    """The dataset as token ids without rows longer than `max_length`, and how many those were.

    A cut completion would teach the model to stop or to go on in the wrong place, so long rows go as a whole.

    Raises:
        CodealignError: If no row is short enough.
    """
    encoded = dataset.map(
        encode_pair,
        fn_kwargs={"tokenizer": tokenizer},
        remove_columns=dataset.column_names,
        desc="tokenizing pairs",
    )
    if max_length is None:
        return encoded, 0
    short = encoded.filter(
        lambda row: (
            len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) <= max_length
        ),
        desc="dropping long pairs",
    )
    if not len(short):
        raise CodealignError(f"all {len(encoded)} pairs are longer than max_length={max_length}; raise it")
    return short, len(encoded) - len(short)
