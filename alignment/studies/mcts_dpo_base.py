"""The base models of the study `mcts-dpo`: a small GPT-2 that learned running sums with misconceptions.

One layer of width 64 on an alphabet of twelve characters, trained from scratch in seconds: AdamW at 4e-3, a
fifth of it for the last 30 per cent. Positions are learned, for one layer has to find the n-th digit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen_eval.config import Config
from codegen_eval.tasks.running_sum import ALPHABET, END, EQUALS, plant, questions, traces

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class Base(Config):
    """Sizes and training of the base model.

    Attributes:
        digits: Of a question.
        sure: Entries of the addition table that are written wrong with the first of `chances`.
        unsure: Entries with the second.
        chances: See above.
        width: Of the model.
        heads: Of its attention.
        layers: Of the model.
        steps: Updates.
        batch: Traces an update.
        learning_rate: Peak.
    """

    digits: int = 9
    sure: int = 10
    unsure: int = 40
    chances: tuple[float, float] = (0.7, 0.3)
    width: int = 64
    heads: int = 4
    layers: int = 1
    steps: int = 600
    batch: int = 64
    learning_rate: float = 4e-3


def sum_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; `;` ends and pads."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordLevel({letter: i for i, letter in enumerate(ALPHABET)}, unk_token=ALPHABET[END])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    end = ALPHABET[END]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end)


def untrained(base: Base, seed: int) -> Any:
    """The model before its training."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(ALPHABET),
        n_positions=64,
        n_embd=base.width,
        n_layer=base.layers,
        n_head=base.heads,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=END,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def train_base(base: Base, seed: int, folder: Path) -> float:
    """Trains the base model of a seed and saves it with its tokenizer; gives the last updates' mean loss.

    Args:
        base: Sizes and training.
        seed: Of the table, the traces and the weights.
        folder: Where the model goes.
    """
    import torch
    import torch.nn.functional as F

    model, table = (
        untrained(base, seed),
        plant(seed, sure=base.sure, unsure=base.unsure, chances=base.chances),
    )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=base.learning_rate, weight_decay=0.0)
    losses = []
    for step in range(base.steps):
        for group in optimizer.param_groups:
            group["lr"] = base.learning_rate * (1.0 if step < 0.7 * base.steps else 0.2)
        digits = questions(rng, base.batch, base.digits)
        answers = traces(digits, table, rng)
        signs = np.full((base.batch, 1), EQUALS)
        ids = torch.from_numpy(np.concatenate([digits, signs, answers], axis=1))
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[:, base.digits :]
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, base.digits + 1 :].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    model.save_pretrained(folder)
    sum_tokenizer().save_pretrained(folder)
    return float(np.mean(losses[-20:]))
