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
        length: int | Sequence[int],
        seed: int,
        first_banned: Collection[int] = (),
    ) -> list[list[Completion]]:
        """`count` completions of each context.

        Args:
            contexts: Token ids, at least one each.
            keys: Name of each context in the seeds: completion i of a key depends on (seed, key, i) alone.
            count: Completions of each.
            length: Most new tokens, 1 or more; of all contexts, or of each.
            seed: Of all draws.
            first_banned: Ids that may not be drawn first.

        Raises:
            CodealignError: For a context that is empty or too long for the model's window.
        """
        found: list[list[Completion]] = []
        lengths = [length] * len(contexts) if isinstance(length, int) else list(length)
        at_once = max(1, self.batch_rows // count)
        for start in range(0, len(contexts), at_once):
            part = slice(start, start + at_once)
            cuts = [[len(context)] for context in contexts[part]]
            rows = _Rows(self, contexts[part], cuts, (), lengths[part])
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
            rows = _Rows(self, sequences[part], cuts[part], suffix, [length] * len(cuts[part]))
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
        lengths: Sequence[int],
    ) -> None:
        from transformers import DynamicCache

        self.decoder = decoder
        self.lengths = [length for length, of in zip(lengths, cuts, strict=True) for _ in of]
        model = decoder.model
        width = _checked_width(model, sequences, cuts, [len(suffix) + length for length in lengths])
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
        total, longest = len(names) * count, max(self.lengths)
        limits = [length for length in self.lengths for _ in range(count)]
        output: list[list[int]] = [[] for _ in range(total)]
        ended, done = [False] * total, [False] * total
        draws = _uniforms(names, count, self.lengths, seed) if decoder.temperature else None
        with torch.inference_mode():
            repeated = torch.arange(len(names), device=device).repeat_interleave(count)
            self.cache.batch_select_indices(repeated)
            logits, self.mask = self.logits[repeated], self.mask[repeated]
            if banned:
                logits = logits.clone()
                logits[:, sorted(banned)] = -math.inf
            alive = list(range(total))
            for step in range(longest):
                uniforms = draws[alive, step] if draws is not None else torch.empty(0)
                chosen = choose_tokens(logits, uniforms, decoder.temperature, decoder.top_p)
                for row, token in zip(alive, chosen.tolist(), strict=True):
                    if not done[row]:
                        ended[row] = token in decoder.ends
                        if not ended[row]:
                            output[row].append(token)
                        done[row] = ended[row] or step + 1 == limits[row]
                left = [i for i, row in enumerate(alive) if not done[row]]
                if not left:
                    break
                if len(left) <= (1 - _DEPART) * len(alive):
                    keep = torch.tensor(left, device=device)
                    self.cache.batch_select_indices(keep)
                    chosen, self.mask, alive = chosen[keep], self.mask[keep], [alive[i] for i in left]
                logits = self._step(chosen.unsqueeze(1))
        found = [Completion(tuple(ids), end) for ids, end in zip(output, ended, strict=True)]
        return [found[i * count : (i + 1) * count] for i in range(len(names))]


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
    model: Any, sequences: Sequence[Sequence[int]], cuts: Sequence[Sequence[int]], more: Sequence[int]
) -> int:
    """Length of the longest sequence, if all fit."""
    window = getattr(model.config, "max_position_embeddings", None)
    for sequence, of, new in zip(sequences, cuts, more, strict=True):
        if not of or min(of) < 1 or max(of) > len(sequence):
            raise CodealignError(
                f"a prefix of a sequence of {len(sequence)} tokens must have 1 to {len(sequence)}: {list(of)}"
            )
        if window is not None and len(sequence) + new > window:
            raise CodealignError(
                f"a context of {len(sequence)} tokens and {new} more do not fit the model's window of "
                f"{window}: shorten the prompts or the lengths asked for"
            )
    return max(map(len, sequences))


def _uniforms(names: Sequence[str], count: int, lengths: Sequence[int], seed: int) -> Tensor:
    """One number a step of every completion, (names x count, longest); 0 behind a row's own length.

    Row i of a name depends on the name, its length and i alone.
    """
    numbers = np.zeros((len(names) * count, max(lengths)))
    for i, (name, length) in enumerate(zip(names, lengths, strict=True)):
        drawn = sample_generator(seed, name, 0).random((count, length))
        numbers[i * count : (i + 1) * count, :length] = drawn
    return torch.from_numpy(numbers)


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
