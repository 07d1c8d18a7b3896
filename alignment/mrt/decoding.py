"""Tokens from a causal language model: whole answers, and short ones behind many prefixes of one sequence.

Forced stops ask for an answer behind every prefix of a trace. The trace goes through the model once; its
prefixes are rows that see the same cached keys up to their cut, so that nothing is computed twice. Token ids
go in and come out: text is never made into tokens again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codegen_eval.errors import CodealignError
from codegen_eval.generation.sampling import choose_tokens, sample_generator

if TYPE_CHECKING:
    from torch import Tensor

# Rows leave when this share of the batch is finished: each departure copies the cache once.
_DEPART = 0.1

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled tokens without the end token, and whether one was drawn (else the length ran out)."""

    ids: Ids
    ended: bool


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model and how it is sampled.

    Attributes:
        model: A causal language model of transformers.
        ends: Ids of the end tokens.
        temperature: Divides the logits; 0 is greedy.
        top_p: Nucleus.
        batch_rows: Most rows at a time. Rows of one batch are padded to its longest, which can move a logit
            in its last bits: the number is part of what makes a run.
    """

    model: Any
    ends: frozenset[int]
    temperature: float = 1.0
    top_p: float = 1.0
    batch_rows: int = 512

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0) or not 0 < self.top_p <= 1:
            raise CodealignError(
                f"temperature {self.temperature} must be 0 or more, top_p {self.top_p} above 0 and at most 1"
            )
        if self.batch_rows < 1:
            raise CodealignError(f"batch_rows is {self.batch_rows}: give 1 or more")

    def complete(
        self,
        contexts: Sequence[Sequence[int]],
        keys: Sequence[str],
        *,
        count: int,
        length: int,
        seed: int,
        first_banned: Collection[int] = (),
    ) -> list[list[Completion]]:
        """`count` completions of each context.

        Args:
            contexts: Token ids, at least one each.
            keys: Name of each context in the seeds: completion i of a key depends on (seed, key, i) alone.
            count: Completions of each.
            length: Most new tokens.
            seed: Of all draws.
            first_banned: Ids that may not be drawn first.

        Raises:
            CodealignError: For a context that is empty or too long for the model's window.
        """
        found: list[list[Completion]] = []
        at_once = max(1, self.batch_rows // count)
        for start in range(0, len(contexts), at_once):
            part = slice(start, start + at_once)
            cuts = [[len(context)] for context in contexts[part]]
            rows = _Rows(self, contexts[part], cuts, (), length)
            found += rows.draw([[key] for key in keys[part]], count, seed, first_banned)
        return found

    def behind(
        self,
        sequences: Sequence[Sequence[int]],
        cuts: Sequence[Sequence[int]],
        keys: Sequence[str],
        *,
        suffix: Sequence[int],
        count: int,
        length: int,
        seed: int,
    ) -> list[list[list[Completion]]]:
        """`count` completions of sequence[:cut] + suffix for every cut of every sequence.

        Args:
            sequences: Token ids.
            cuts: For each the lengths of its prefixes, 1 or more.
            keys: Name of each sequence in the seeds.
            suffix: Ids put behind every prefix, 1 or more: the forced stop.
            count: Completions of each prefix.
            length: Most new tokens.
            seed: Of all draws.

        Raises:
            CodealignError: As `complete`, and for an empty suffix.
        """
        if not suffix:
            raise CodealignError("a forced stop needs at least one token behind the prefix")
        found: list[list[list[Completion]]] = []
        for part in _blocks([len(c) * count for c in cuts], self.batch_rows):
            rows = _Rows(self, sequences[part], cuts[part], suffix, length)
            names = [[f"{key}/{cut}" for cut in of] for key, of in zip(keys[part], cuts[part], strict=True)]
            drawn = iter(rows.draw(names, count, seed, ()))
            found += [[next(drawn) for _ in of] for of in cuts[part]]
        return found


class _Rows:
    """One batch: sequences computed once, and a row for every prefix of them, ready to be drawn from."""

    def __init__(
        self,
        decoder: Decoder,
        sequences: Sequence[Sequence[int]],
        cuts: Sequence[Sequence[int]],
        suffix: Sequence[int],
        length: int,
    ) -> None:
        from transformers import DynamicCache

        self.decoder, self.length = decoder, length
        model = decoder.model
        width = _checked_width(model, sequences, cuts, len(suffix) + length)
        ids = torch.zeros((len(sequences), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, sequence in enumerate(sequences):
            ids[i, width - len(sequence) :] = torch.tensor(list(sequence))
            mask[i, width - len(sequence) :] = 1
        owner = torch.tensor([i for i, of in enumerate(cuts) for _ in of])
        last = torch.tensor([width - len(s) + c for s, of in zip(sequences, cuts, strict=True) for c in of])
        seen = mask[owner] * (torch.arange(width)[None, :] < last[:, None])
        device = model.device
        ids, mask, owner, self.mask = ids.to(device), mask.to(device), owner.to(device), seen.to(device)
        with torch.inference_mode():
            self.cache = DynamicCache(config=model.config)
            self.logits = _forward(model, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), self.cache)[owner]
            self.cache.batch_select_indices(owner)
            if suffix:
                extra = torch.tensor(list(suffix), device=device).expand(len(owner), -1)
                self.logits = self._step(extra)

    def _step(self, ids: Tensor) -> Tensor:
        """Logits behind `ids` (rows, n), which join the rows."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], dim=1)
        positions = (
            self.mask.sum(1, keepdim=True) - ids.shape[1] + torch.arange(ids.shape[1], device=ids.device)
        )
        return _forward(self.decoder.model, ids, self.mask, positions, self.cache)

    def draw(
        self, keys: Sequence[Sequence[str]], count: int, seed: int, banned: Collection[int]
    ) -> list[list[Completion]]:
        """`count` completions of every row; `keys` name the rows, one list a sequence."""
        decoder, device = self.decoder, self.logits.device
        names = [key for of in keys for key in of]
        total = len(names) * count
        output: list[list[int]] = [[] for _ in range(total)]
        ended = [False] * total
        draws = _uniforms(names, count, self.length, seed) if decoder.temperature else None
        with torch.inference_mode():
            repeated = torch.arange(len(names), device=device).repeat_interleave(count)
            self.cache.batch_select_indices(repeated)
            logits, self.mask = self.logits[repeated], self.mask[repeated]
            if banned:
                logits = logits.clone()
                logits[:, sorted(banned)] = -math.inf
            alive = list(range(total))
            for step in range(self.length):
                uniforms = draws[alive, step] if draws is not None else torch.empty(0)
                chosen = choose_tokens(logits, uniforms, decoder.temperature, decoder.top_p)
                for row, token in zip(alive, chosen.tolist(), strict=True):
                    if not ended[row]:
                        ended[row] = token in decoder.ends
                        if not ended[row]:
                            output[row].append(token)
                left = [i for i, row in enumerate(alive) if not ended[row]]
                if not left or step + 1 == self.length:
                    break
                if len(left) <= (1 - _DEPART) * len(alive):
                    keep = torch.tensor(left, device=device)
                    self.cache.batch_select_indices(keep)
                    chosen, self.mask, alive = chosen[keep], self.mask[keep], [alive[i] for i in left]
                logits = self._step(chosen.unsqueeze(1))
        done = [Completion(tuple(ids), end) for ids, end in zip(output, ended, strict=True)]
        return [done[i * count : (i + 1) * count] for i in range(len(names))]


def _blocks(sizes: Sequence[int], most: int) -> list[slice]:
    """Runs of neighbours whose sizes sum to at most `most`; one that is larger stands alone."""
    blocks, start, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > most:
            blocks.append(slice(start, i))
            start, total = i, 0
        total += size
    return [*blocks, slice(start, len(sizes))] if sizes else []


def _checked_width(
    model: Any, sequences: Sequence[Sequence[int]], cuts: Sequence[Sequence[int]], more: int
) -> int:
    """Length of the longest sequence, if all fit."""
    for sequence, of in zip(sequences, cuts, strict=True):
        if not of or min(of) < 1 or max(of) > len(sequence):
            raise CodealignError(
                f"a prefix of a sequence of {len(sequence)} tokens must have 1 to {len(sequence)}: {list(of)}"
            )
    longest = max(map(len, sequences))
    window = getattr(model.config, "max_position_embeddings", None)
    if window is not None and longest + more > window:
        raise CodealignError(
            f"a context of {longest} tokens and {more} more do not fit the model's window of {window}: "
            "shorten the prompts or the lengths asked for"
        )
    return longest


def _uniforms(names: Sequence[str], count: int, length: int, seed: int) -> Tensor:
    """One number a step of every completion, (names x count, length): row i of a name depends on i alone."""
    blocks = [sample_generator(seed, name, 0).random((count, length)) for name in names]
    return torch.from_numpy(np.concatenate(blocks))


def _forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits behind the last of `ids`, (rows, vocabulary); the cache grows by `ids`."""
    logits: Tensor = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    return logits
