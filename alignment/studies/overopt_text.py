"""The world of the overoptimisation study as text, and the tiny transformers that become its reward models.

Tokens are words: `c0` to `c63` for the common ones, `t0` to `t63` for the tail; a prompt is one word. Members
start from weights drawn apart, trunk and head: what the study's controls say its effect rests on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment.reward_modeling.data import Pair
from alignment.studies.overopt_world import FloatArray, Gold, IntArray, World, counts_of, sequences


@dataclass(frozen=True, slots=True)
class Texts:
    """What one seed draws.

    Attributes:
        train: Training pairs with their noisy labels.
        validation: Pairs with clean labels, for scales and accuracy.
        pool: Prompts and answers, `samples` a prompt behind one another.
        pool_gold: Shape (prompts, samples).
        tail: How many tail tokens each answer of the pool has, shape (prompts, samples).
        flipped: Share of training labels that are wrong.
    """

    train: list[Pair]
    validation: list[Pair]
    pool: list[tuple[str, str]]
    pool_gold: FloatArray
    tail: IntArray
    flipped: float


def words(world: World) -> list[str]:
    """The vocabulary, in the order of the tokens' numbers."""
    return [f"c{i}" for i in range(world.common)] + [f"t{i}" for i in range(world.tail)]


def draw_texts(world: World, seed: int) -> Texts:
    """Everything that one seed draws, from one generator, in the order of `overopt_world.draw`."""
    rng = np.random.default_rng(seed)
    chain = np.cumsum(rng.dirichlet(np.full(world.common, 0.3), size=world.common), axis=1)
    gold = Gold(world, rng)
    total = world.pairs + world.validation
    prompts = rng.integers(world.common, size=total)
    tokens = sequences(world, chain, np.tile(prompts, 2), rng)
    counts = counts_of(world, tokens).reshape(2, total, -1)
    gold.standardise(counts)
    better = gold(counts).argmax(axis=0)
    flips = rng.random(world.pairs) < world.noise
    better[: world.pairs] ^= flips
    names = words(world)
    answers = [[_text(names, row) for row in side] for side in tokens.reshape(2, total, -1)]
    pairs = [Pair(names[prompts[i]], answers[better[i]][i], answers[1 - better[i]][i]) for i in range(total)]
    starts = np.repeat(rng.integers(world.common, size=world.prompts), world.pool)
    pool = sequences(world, chain, starts, rng)
    shape = (world.prompts, world.pool)
    return Texts(
        # Equal answers are no preference: the gold scores tie.
        train=[pair for pair in pairs[: world.pairs] if pair.chosen != pair.rejected],
        validation=[pair for pair in pairs[world.pairs :] if pair.chosen != pair.rejected],
        pool=[(names[start], _text(names, row)) for start, row in zip(starts, pool, strict=True)],
        pool_gold=gold(counts_of(world, pool)).reshape(shape),
        tail=(pool >= world.common).sum(axis=1).reshape(shape),
        flipped=float(flips.mean()),
    )


def _text(names: Sequence[str], row: IntArray) -> str:
    return " ".join(names[token] for token in row)


def save_start(folder: Path, world: World, seed: int) -> Path:
    """A transformer with fresh weights and the world's tokenizer, for a reward model to start from.

    Two layers of width 32, two heads; the library's own initialisation.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<end>", "<unknown>", *words(world)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped: Any = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>"
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=world.length + 2,
        num_labels=1,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForSequenceClassification(config)
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder
