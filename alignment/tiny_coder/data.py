"""Batches for pretraining: MiniPy sequences as tokens with a weight for each.

The stream is cut into chunks; chunk number and seed fix its text, its batches and their order, so that a
resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from random import Random
from typing import TYPE_CHECKING

import numpy as np

from codegen_eval.benchmarks.minipy.corpus import Mixture, Sequence, sequences
from codegen_eval.config import Config

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 2048
EDGES = (0, 56, 80, 104, 136)
"""Lengths between which sequences share a shape; the one in a hundred that is longer is left out."""

Row = tuple[list[int], list[float]]


class Weights(Config):
    """What a token counts in the loss."""

    prompt: float = 0.1
    program: float = 1.0
    test_input: float = 0.3
    """The call of an assertion: mostly chance, so it teaches little."""
    test_value: float = 1.0
    """The expected value of an assertion."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Right-padded sequences: `tokens` int64 and `weights` float32, both (rows, length); padding weighs 0."""

    tokens: np.ndarray
    weights: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of one update, in parts of similar length so that little of the work is padding.

    A batch as a whole is a stratified draw of the corpus. Batches of one length each would cost less padding,
    but with an optimiser that normalises its updates they taught the model that programs are short: slow
    bodies, which are long, were drawn at a twentieth of their share.
    """

    parts: tuple[Rows, ...]

    @property
    def size(self) -> int:
        """Tokens without padding."""
        return sum(int((part.weights > 0).sum()) for part in self.parts)


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
        batch_tokens: Tokens in a batch on average, without padding.
        families: Only these families; empty for all.

    Raises:
        ValueError: If over a quarter of the sequences are longer than the last of `EDGES`.
    """
    rows = [
        encode(sequence, tokenizer, weights)
        for sequence in sequences(mixture, seed * 1_000_003 + chunk, CHUNK, families)
    ]
    Random(f"batches/{seed}/{chunk}").shuffle(rows)
    count = max(1, round(sum(len(tokens) for tokens, _ in rows) / batch_tokens))
    strata = [[row for row in rows if low < len(row[0]) <= high] for low, high in itertools.pairwise(EDGES)]
    kept = sum(map(len, strata))
    if kept < 0.75 * len(rows):
        raise ValueError(
            f"only {kept} of {len(rows)} training sequences have at most {EDGES[-1]} tokens; raise "
            "vocab_size or lower mixture.assertions"
        )
    parts = [_split(stratum, count, high) for stratum, high in zip(strata, EDGES[1:], strict=True) if stratum]
    return [Batch(tuple(part[i] for part in parts)) for i in range(count)]


def encode(sequence: Sequence, tokenizer: PreTrainedTokenizerFast, weights: Weights) -> Row:
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


def _split(rows: list[Row], count: int, length: int) -> list[Rows]:
    """Deals the rows to `count` batches; all get the same shape, since every new shape compiles kernels."""
    height = math.ceil(len(rows) / count)
    return [_pad(rows[i::count], height, length) for i in range(count)]


def _pad(rows: list[Row], height: int, length: int) -> Rows:
    tokens = np.zeros((height, length), dtype=np.int64)
    weights = np.zeros((height, length), dtype=np.float32)
    for i, (ids, counted) in enumerate(rows):
        tokens[i, : len(ids)] = ids
        weights[i, : len(ids)] = counted
    return Rows(tokens, weights)
