"""Preference data from text to tokens.

Prompt and completion are tokenised apart, as they were when the completion was sampled: joint tokenisation
could merge the prompt's last character with the completion's first ones and train on tokens that the model
never sees. Rows that hold token ids already are taken as they are, with no end token added: a step of a
solution does not end the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codegen_eval.errors import CodealignError

if TYPE_CHECKING:
    from datasets import Dataset

SIDES = ("chosen", "rejected")


def encode_pair(
    row: Mapping[str, Any], tokenizer: Any, *, append_eos: bool = True, segments: bool = False
) -> dict[str, Any]:
    """Token ids of prompt and sides, and what else a loss reads of each token.

    Args:
        row: A checked row of pairs.
        tokenizer: The model's tokenizer.
        append_eos: Whether sides that are text end with the end token.
        segments: Whether to mark the tokens' segments (0 common prefix, 1 differing middle, 2 common suffix):
            by the row's own columns, its `prefix_chars` and `suffix_chars`, or the token ids.
    """
    if "prompt_ids" in row:
        found = {key: list(row[key]) for key in ("prompt_ids", "chosen_ids", "rejected_ids")}
    else:
        found = {f"{side}_ids": completion_ids(row[side], tokenizer, append_eos) for side in SIDES}
        found = {"prompt_ids": list(tokenizer.encode(row["prompt"])), **found}
    for side in SIDES:
        if f"{side}_mask" in row:
            found[f"{side}_mask"] = [bool(value) for value in row[f"{side}_mask"]]
    if segments:
        found |= _segments(row, found, tokenizer)
    return found


def completion_ids(text: str, tokenizer: Any, append_eos: bool = True) -> list[int]:
    """A completion's token ids."""
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    return [*ids, tokenizer.eos_token_id] if append_eos else ids


def _segments(row: Mapping[str, Any], ids: Mapping[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    if "chosen_segments" in row:
        return {f"{side}_segments": list(row[f"{side}_segments"]) for side in SIDES}
    if row.get("prefix_chars") is not None and row.get("suffix_chars") is not None and tokenizer.is_fast:
        return {
            f"{side}_segments": char_segments(
                row[side], row["prefix_chars"], row["suffix_chars"], tokenizer, len(ids[f"{side}_ids"])
            )
            for side in SIDES
        }
    from alignment.losses.tokens import split_segments

    both = split_segments(ids["chosen_ids"], ids["rejected_ids"])
    return {f"{side}_segments": marks for side, marks in zip(SIDES, both, strict=True)}


def char_segments(text: str, prefix: int, suffix: int, tokenizer: Any, tokens: int) -> list[int]:
    """Segments of a text's tokens by characters: a token with any character of the middle belongs to it.

    Args:
        text: The completion.
        prefix: Characters that both sides begin with.
        suffix: Characters that both sides end with.
        tokenizer: One that knows the characters of its tokens.
        tokens: Number of tokens, with the end token where there is one; that counts as suffix.
    """
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    end = len(text) - suffix
    marks = [0 if stop <= prefix else 2 if start >= end else 1 for start, stop in offsets]
    return [*marks, *[2] * (tokens - len(marks))]


def encode_pairs(
    dataset: Dataset, tokenizer: Any, max_length: int | None, **options: bool
) -> tuple[Dataset, int]:
    """The dataset as token ids without rows longer than `max_length`, and how many those were.

    A cut completion would teach the model to stop or to go on in the wrong place, so long rows go as a whole.
    Numbers beside the sides stay.

    Raises:
        CodealignError: If no row is short enough, a prompt has no token, token ids lie outside the
            vocabulary, or both sides are the same tokens.
    """
    encoded = dataset.map(
        encode_pair,
        fn_kwargs={"tokenizer": tokenizer, **options},
        remove_columns=[name for name in dataset.column_names if name in _CONSUMED],
        desc="tokenizing pairs",
    )
    return _within(encoded, max_length, ("chosen_ids", "rejected_ids"), len(tokenizer))


def encode_labelled(
    dataset: Dataset, tokenizer: Any, max_length: int | None, *, append_eos: bool = True
) -> tuple[Dataset, int]:
    """Labelled completions as token ids, without rows that are too long; as `encode_pairs`."""

    def encode(row: Mapping[str, Any]) -> dict[str, list[int]]:
        if "prompt_ids" in row:
            return {key: list(row[key]) for key in ("prompt_ids", "completion_ids")}
        ids = completion_ids(row["completion"], tokenizer, append_eos)
        return {"prompt_ids": list(tokenizer.encode(row["prompt"])), "completion_ids": ids}

    texts = [name for name in dataset.column_names if name in ("prompt", "completion")]
    encoded = dataset.map(encode, remove_columns=texts, desc="tokenizing completions")
    return _within(encoded, max_length, ("completion_ids",), len(tokenizer))


_CONSUMED = ("prompt", "chosen", "rejected", "prefix_chars", "suffix_chars")


def _within(
    encoded: Dataset, max_length: int | None, sides: Sequence[str], vocabulary: int
) -> tuple[Dataset, int]:
    """Keeps rows of at most `max_length` tokens, whole."""
    for i, row in enumerate(encoded):
        if not row["prompt_ids"]:
            raise CodealignError(
                f"pair {i}: the prompt has no token, so nothing predicts the first one of the completion; "
                "begin prompts with a token"
            )
        highest = max(max(row[name]) for name in ("prompt_ids", *sides))
        if highest >= vocabulary:
            raise CodealignError(
                f"pair {i} holds token {highest}, the tokenizer knows only {vocabulary}: these rows were "
                "made with another tokenizer"
            )
        if len(sides) == 2 and row[sides[0]] == row[sides[1]]:
            raise CodealignError(f"pair {i}: chosen and rejected are the same tokens")
    if max_length is None:
        return encoded, 0
    short = encoded.filter(
        lambda row: len(row["prompt_ids"]) + max(len(row[name]) for name in sides) <= max_length,
        desc="dropping long pairs",
    )
    if not len(short):
        raise CodealignError(f"all {len(encoded)} pairs are longer than max_length={max_length}; raise it")
    return short, len(encoded) - len(short)
