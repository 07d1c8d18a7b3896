"""Batches for pretraining: MiniPy sequences as tokens with a weight for each.

The stream is cut into chunks; chunk number and seed fix its text, its batches and their order, so that a
resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from codegen_eval.benchmarks.minipy.corpus import Mixture, Sequence, sequences
from codegen_eval.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 2048


class Weights(Config):
    """What a token counts in the loss."""

    prompt: float = 0.1
    program: float = 1.0
    test_input: float = 0.3
    """The call of an assertion: mostly chance, so it teaches little."""
    test_value: float = 1.0
    """The expected value of an assertion."""


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded sequences: `tokens` int64 and `weights` float32, both (rows, length); padding weighs 0."""

    tokens: np.ndarray
    weights: np.ndarray

    @property
    def size(self) -> int:
        """Tokens that count or could count, without padding."""
        return int((self.weights > 0).sum())


def chunk_batches(
    chunk: int,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Mixture,
    weights: Weights,
    *,
    seed: int,
    batch_tokens: int,
    families: tuple[str, ...] = (),
) -> list[Batch]:
    """The batches of one chunk, in training order.

    Args:
        chunk: Its number.
        tokenizer: Of the model.
        mixture: Of the corpus.
        weights: Of the loss.
        seed: Of the run.
        batch_tokens: Most tokens in a batch, padding included.
        families: Only these families; empty for all.
    """
    rows = [
        encode(sequence, tokenizer, weights)
        for sequence in sequences(mixture, seed * 1_000_003 + chunk, CHUNK, families)
    ]
    rows.sort(key=lambda row: len(row[0]))
    batches = [_pad(group) for group in _groups(rows, batch_tokens)]
    Random(f"batches/{seed}/{chunk}").shuffle(batches)
    return batches


def encode(
    sequence: Sequence, tokenizer: PreTrainedTokenizerFast, weights: Weights
) -> tuple[list[int], list[float]]:
    """Tokens of prompt, completion and end, and what each counts."""
    backend = tokenizer.backend_tokenizer
    prompt = backend.encode(sequence.prompt).ids
    completion = backend.encode(sequence.completion)
    if sequence.kind == "program":
        counted = [weights.program] * len(completion.ids)
    else:
        valued = _value_characters(sequence.completion)
        counted = [
            weights.test_value if valued[end - 1] else weights.test_input for _, end in completion.offsets
        ]
    end_weight = weights.program if sequence.kind == "program" else weights.test_input
    return (
        [*prompt, *completion.ids, int(tokenizer.eos_token_id)],
        [weights.prompt] * len(prompt) + counted + [end_weight],
    )


def _value_characters(text: str) -> list[bool]:
    """For each character of some assertions whether it belongs to an expected value."""
    marks: list[bool] = []
    for line in text.splitlines(keepends=True):
        call = line.rindex(" == ") + len(" == ")
        marks += [False] * call + [True] * (len(line) - call)
    return marks


def _groups(
    rows: list[tuple[list[int], list[float]]], batch_tokens: int
) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Runs of rows, sorted by length, that fit into `batch_tokens` when padded to the longest."""
    group: list[tuple[list[int], list[float]]] = []
    for row in rows:
        if group and len(row[0]) * (len(group) + 1) > batch_tokens:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _pad(group: list[tuple[list[int], list[float]]]) -> Batch:
    length = max(len(tokens) for tokens, _ in group)
    tokens = np.zeros((len(group), length), dtype=np.int64)
    weights = np.zeros((len(group), length), dtype=np.float32)
    for i, (ids, counted) in enumerate(group):
        tokens[i, : len(ids)] = ids
        weights[i, : len(ids)] = counted
    return Batch(tokens, weights)
