"""The model of the MRT study: a small GPT-2 that learns the episode task from right text in a minute or two.

GPT-2 and not the Llama of tiny-coder: an episode names the place of a digit, and with learned positions that
is a lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alignment.tiny_coder.data import Rows
from alignment.tiny_coder.train import weighted_sum
from codegen_eval.tasks.episodes import ALPHABET, CLOSE, EpisodeTask, Line, lines
from codegen_eval.tasks.episodes_tokenizer import character_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_EDGES = (0, 20, 28, 40, 1 << 20)
WINDOW = 128


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """How the base model is made.

    Attributes:
        steps: Updates; few enough that it still errs, so that there is something to improve.
        rows: Texts an update.
        learning_rate: Of AdamW; a fifth of it in the last 30 %.
        width: Of the model.
        layers: Of the model.
    """

    steps: int = 700
    rows: int = 64
    learning_rate: float = 4e-3
    width: int = 64
    layers: int = 2


def train_base(recipe: BaseRecipe, task: EpisodeTask, seed: int) -> tuple[Any, PreTrainedTokenizerFast]:
    """Model and tokenizer; one torch thread of the caller's choice, seed of weights and text."""
    tokenizer = character_tokenizer(ALPHABET)
    model = _build(recipe, tokenizer, seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    stream = lines(task, seed)
    for step in range(recipe.steps):
        late = step >= 0.7 * recipe.steps
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, (step + 1) / 30) * (0.2 if late else 1.0)
        parts = _batch(list(islice(stream, recipe.rows)), tokenizer)
        total = sum(float(part.weights[:, 1:].sum()) for part in parts)
        for part in parts:
            (weighted_sum(model, part, bf16=False) / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model.eval(), tokenizer


def _build(recipe: BaseRecipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=4,
        n_positions=WINDOW,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def _batch(texts: list[Line], tokenizer: PreTrainedTokenizerFast) -> list[Rows]:
    """The texts in parts of similar length; of a cut text only the answer counts."""
    rows = []
    for line in texts:
        ids = tokenizer.backend_tokenizer.encode(line.prompt + line.thinking + CLOSE + line.answer).ids
        ids = [*ids, tokenizer.eos_token_id]
        counted = len(line.answer) + 1 if line.cut else len(ids) - len(line.prompt)
        rows.append((ids, [0.0] * (len(ids) - counted) + [1.0] * counted))
    parts = []
    for low, high in pairwise(_EDGES):
        of = [row for row in rows if low < len(row[0]) <= high]
        if of:
            width = max(len(ids) for ids, _ in of)
            tokens = np.zeros((len(of), width), dtype=np.int64)
            weights = np.zeros((len(of), width), dtype=np.float32)
            for i, (ids, counted_of) in enumerate(of):
                tokens[i, : len(ids)] = ids
                weights[i, : len(ids)] = counted_of
            parts.append(Rows(tokens, weights))
    return parts
