"""Rows from text and from token ids, with what they carry per token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from alignment.preference.collate import PairCollator
from alignment.preference.data import checked, load_labelled, load_pairs
from alignment.preference.tokens import encode_labelled, encode_pair, encode_pairs
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import write_jsonl
from tests.alignment.preference import small as tiny


def ids(**changes: Any) -> dict[str, Any]:
    row = {"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5]}
    return {**row, **changes}


def test_token_ids_stay_as_they_are_with_no_end_token_added() -> None:
    dataset = checked(Dataset.from_list([ids(kind="step")]), "steps")
    encoded, dropped = encode_pairs(dataset, tiny.tokenizer(), 16)
    assert encoded[0] == ids() and dropped == 0


def test_texts_of_steps_can_do_without_the_end_token() -> None:
    tokenizer = tiny.tokenizer()
    row = {"prompt": "def f(xs):\n", "chosen": "    x = 1\n", "rejected": "    x = 2\n"}
    whole, step = encode_pair(row, tokenizer), encode_pair(row, tokenizer, append_eos=False)
    assert whole["chosen_ids"] == [*step["chosen_ids"], tokenizer.eos_token_id]


def test_a_folder_of_parquet_gives_the_split_that_is_asked_for(tmp_path: Path) -> None:
    rows = {split: {"prompt": "p", "chosen": split, "rejected": "r"} for split in ("train", "test")}
    for split, row in rows.items():
        (tmp_path / "dataset" / "data").mkdir(parents=True, exist_ok=True)
        Dataset.from_list([row]).to_parquet(tmp_path / f"dataset/data/{split}-00000-of-00001.parquet")
    # A run's own file holds both splits and is not what is trained on.
    write_jsonl(tmp_path / "pairs.jsonl", [{**row, "chosen": "both"} for row in rows.values()])
    for folder in (tmp_path, tmp_path / "dataset"):
        for split, row in rows.items():
            assert list(load_pairs(str(folder), split)) == [row]
    with pytest.raises(CodealignError, match=r"unknown split .*'valid'.*There are: .*train"):
        load_pairs(str(tmp_path), "valid")


def test_step_masks_reach_the_batch() -> None:
    rows = [ids(chosen_mask=[0, 1], rejected_mask=[1]), ids(chosen_mask=[1, 1], rejected_mask=[1])]
    encoded, _ = encode_pairs(checked(Dataset.from_list(rows), "steps"), tiny.tokenizer(), None)
    batch = PairCollator(pad_id=0)(list(encoded))
    assert batch["counted"].tolist() == [[False, True], [True, True], [True, False], [True, False]]


def test_segments_come_from_the_row_from_characters_or_from_the_tokens() -> None:
    tokenizer = tiny.tokenizer()
    own = ids(chosen_segments=[0, 2], rejected_segments=[1])
    assert encode_pair(own, tokenizer, segments=True)["chosen_segments"] == [0, 2]
    assert encode_pair(ids(chosen_ids=[3, 9, 4], rejected_ids=[3, 4]), tokenizer, segments=True)[
        "chosen_segments"
    ] == [0, 1, 2]
    chosen, rejected = "    return max(xs)\n", "    return min(xs)\n"
    row = {"prompt": "p", "chosen": chosen, "rejected": rejected, "prefix_chars": 12, "suffix_chars": 5}
    encoded = encode_pair(row, tokenizer, segments=True)
    marks = encoded["chosen_segments"]
    assert len(marks) == len(encoded["chosen_ids"]) and marks[-1] == 2 and marks == sorted(marks)
    middle = [t for t, mark in zip(encoded["chosen_ids"], marks, strict=True) if mark == 1]
    assert "a" in tokenizer.decode(middle) and "return" not in tokenizer.decode(middle)


@pytest.mark.parametrize(
    ("row", "extra", "message"),
    [
        (ids(rejected_ids=[]), [], r"pair 0: a side is empty \(rejected_ids\)"),
        (ids(rejected_ids=[3, 4]), [], "chosen and rejected are equal"),
        (ids(chosen_mask=[1, 1]), [], "one of the columns chosen_mask and rejected_mask"),
        (ids(chosen_mask=[1], rejected_mask=[1]), [], r"one entry for each of 2 tokens \(found: 1\)"),
        (ids(chosen_mask=[0, 0], rejected_mask=[1]), [], "leaves no token that counts"),
        (ids(), ["weight"], r"lacks the column\(s\) weight; found: prompt_ids"),
        (ids(weight=float("nan")), ["weight"], "weight is nan, not a finite number"),
        (ids(weight=-1.0), ["weight"], "weight is -1.0, it must not be negative"),
        (ids(chosen_ids=["a"]), [], "chosen_ids is no list of token ids"),
    ],
)
def test_rows_that_cannot_train_are_refused_by_number(
    row: dict[str, Any], extra: list[str], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        checked(Dataset.from_list([row]), "data", extra)


def test_ids_of_another_tokenizer_and_prompts_without_a_token_are_refused() -> None:
    tokenizer = tiny.tokenizer()
    foreign = checked(Dataset.from_list([ids(chosen_ids=[10**6])]), "data")
    with pytest.raises(CodealignError, match="made with another tokenizer"):
        encode_pairs(foreign, tokenizer, None)
    empty = checked(Dataset.from_list([ids(prompt_ids=[])]), "data")
    with pytest.raises(CodealignError, match="the prompt has no token"):
        encode_pairs(empty, tokenizer, None)


def test_labelled_rows_are_checked_and_long_ones_counted(tmp_path: Any) -> None:
    row = {"prompt": "p", "completion": "x = 1\n", "label": True, "weight": 0.5, "kind": "correctness"}
    write_jsonl(tmp_path / "kto.jsonl", [row, {**row, "completion": "x = 1\n" * 50}])
    dataset = load_labelled(str(tmp_path), extra=["weight"])
    assert dataset.column_names == ["prompt", "completion", "label", "weight"]
    encoded, dropped = encode_labelled(dataset, tiny.tokenizer(), 40)
    assert (len(encoded), dropped) == (1, 1)
    write_jsonl(tmp_path / "kto.jsonl", [{**row, "label": 1}])
    with pytest.raises(CodealignError, match="row 0: label is 1, not true or false"):
        load_labelled(str(tmp_path))
    write_jsonl(tmp_path / "kto.jsonl", [{"prompt": "p", "chosen": "c"}])
    with pytest.raises(CodealignError, match=r"lacks the column\(s\) completion, label; found: "):
        load_labelled(str(tmp_path))
