"""Tokens from a causal language model: whole answers, and short ones behind many prefixes of one sequence.

Forced stops ask for an answer behind every prefix of a trace. The trace goes through the model once; its
prefixes are rows that see the same cached keys up to their cut, so that nothing is computed twice. Token ids
go in and come out: text is never made into tokens again. The loop is that of `codegen_eval.generation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alignment.health.monitor import phase
from alignment.ranks import ALONE, Ranks
from codegen_eval.errors import CodealignError
from codegen_eval.generation.decoding import Rows
from codegen_eval.generation.sampling import choose_tokens, sample_generator

if TYPE_CHECKING:
    from torch import Tensor

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
        ranks: The processes that draw together: each draws its share of the contexts, all get everything.
            They must ask for the same, so a decoder that stands in one of them alone takes `ALONE`.
        whole: Entered around every call: within, a model that is divided over the ranks is whole.
    """

    model: Any
    ends: frozenset[int]
    temperature: float = 1.0
    top_p: float = 1.0
    batch_rows: int = 512
    ranks: Ranks = ALONE
    whole: Callable[[], AbstractContextManager[Any]] = nullcontext

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
        lengths = [length] * len(contexts) if isinstance(length, int) else list(length)
        at_once = max(1, self.batch_rows // count)

        def draw(places: list[int]) -> list[list[Completion]]:
            found: list[list[Completion]] = []
            for start in range(0, len(places), at_once):
                part = places[start : start + at_once]
                with phase("rollout"):  # a sign of progress each
                    found += _drawn(
                        self,
                        [contexts[i] for i in part],
                        [[len(contexts[i])] for i in part],
                        [keys[i] for i in part],
                        suffix=(),
                        count=count,
                        lengths=[lengths[i] for i in part],
                        seed=seed,
                        banned=first_banned,
                    )
            return found

        with self.whole():
            return self.ranks.spread(range(len(contexts)), draw)

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

        def draw(places: list[int]) -> list[list[list[Completion]]]:
            found: list[list[list[Completion]]] = []
            for block in _blocks([len(cuts[i]) * count for i in places], self.batch_rows):
                part = places[block]
                with phase("reward"):  # forced stops are how MRT asks what a prefix is worth
                    drawn = iter(
                        _drawn(
                            self,
                            [sequences[i] for i in part],
                            [cuts[i] for i in part],
                            [f"{keys[i]}/{cut}" for i in part for cut in cuts[i]],
                            suffix=suffix,
                            count=count,
                            lengths=[length] * len(part),
                            seed=seed,
                        )
                    )
                found += [[next(drawn) for _ in cuts[i]] for i in part]
            return found

        with self.whole():
            return self.ranks.spread(range(len(sequences)), draw)


def _prefixes(
    decoder: Decoder,
    sequences: Sequence[Sequence[int]],
    cuts: Sequence[Sequence[int]],
    suffix: Sequence[int],
    lengths: Sequence[int],
) -> Rows:
    """Sequences computed once, and a row for every prefix of them, the suffix behind it."""
    model = decoder.model
    width = _checked_width(model, sequences, cuts, [len(suffix) + length for length in lengths])
    owner = torch.tensor([i for i, of in enumerate(cuts) for _ in of])
    last = torch.tensor([width - len(s) + c for s, of in zip(sequences, cuts, strict=True) for c in of])
    rows = Rows.of(model, sequences)
    rows.select(owner.to(model.device))
    # Each row sees the keys up to its cut alone.
    rows.mask = rows.mask * (torch.arange(width)[None, :] < last[:, None]).to(model.device)
    if suffix:
        rows.feed(torch.tensor(list(suffix), device=model.device).expand(len(rows), -1))
    return rows


def _drawn(
    decoder: Decoder,
    sequences: Sequence[Sequence[int]],
    cuts: Sequence[Sequence[int]],
    names: Sequence[str],
    *,
    suffix: Sequence[int],
    count: int,
    lengths: Sequence[int],
    seed: int,
    banned: Collection[int] = (),
) -> list[list[Completion]]:
    """`count` completions of every prefix; `names` are the prefixes', `lengths` the sequences'."""
    of_row = [length for length, of in zip(lengths, cuts, strict=True) for _ in of]
    limits = [length for length in of_row for _ in range(count)]
    draws = _uniforms(names, count, of_row, seed) if decoder.temperature else None
    output: list[list[int]] = [[] for _ in limits]
    ended = [False] * len(limits)

    def choose(logits: Tensor, alive: list[int], step: int) -> Tensor:
        uniforms = draws[alive, step] if draws is not None else torch.empty(0)
        return choose_tokens(logits, uniforms, decoder.temperature, decoder.top_p)

    def take(row: int, token: int, step: int) -> bool:
        ended[row] = token in decoder.ends
        if not ended[row]:
            output[row].append(token)
        return ended[row] or step + 1 == limits[row]

    with torch.inference_mode():
        rows = _prefixes(decoder, sequences, cuts, suffix, lengths)
        rows.select(torch.arange(len(names), device=rows.mask.device).repeat_interleave(count))
        if banned:
            rows.logits[:, sorted(banned)] = -math.inf
        rows.draw(max(limits), choose, take)
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
