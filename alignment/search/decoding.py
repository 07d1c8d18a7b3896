"""Many continuations of many prefixes in one batch, with what is known of the prefixes taken from a store.

Every row's layout is [gap, stored tokens | gap, new tokens of the prefix | sampled tokens]; the attention
mask is our own and leaves the gaps out, positions are given, so that rows of any lengths fit together. A row
leaves as soon as it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alignment.search.kv_store import KVStore, Prefix, Segment
from codegen_eval.generation.sampling import choose_tokens

if TYPE_CHECKING:
    from torch import Tensor

Done = Callable[[int, list[int]], int | None]
"""Row and its tokens so far -> how many of them are kept, None to go on."""


@dataclass(slots=True)
class Work:
    """A prefix to be continued `count` times; filled in by `draw`.

    Attributes:
        prefix: Token ids.
        count: Number of continuations.
        store: Whether the continuations' keys and values are kept.
        known: The prefix's segment, where it is in the store.
        taken: Tokens that were not computed.
    """

    prefix: Prefix
    count: int
    store: bool
    known: Segment | None = None
    taken: int = 0


@dataclass(slots=True)
class Drawn:
    """One continuation.

    Attributes:
        tokens: All that were sampled.
        logps: Their log-probabilities under the model (temperature 1, nothing cut off).
        kept: How many belong to it.
    """

    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    kept: int = 0


def draw(
    model: Any,
    works: Sequence[Work],
    store: KVStore,
    uniforms: NDArray[np.float64],
    done: Done,
    *,
    temperature: float,
    top_p: float,
) -> list[Drawn]:
    """Continuations of all prefixes, in their order.

    Args:
        model: A causal language model whose layers all attend in full.
        works: The prefixes; none empty.
        store: Looked up and added to.
        uniforms: (continuations, most tokens), in [0, 1): what each token is drawn with.
        done: Called after each token of a row; the last column of `uniforms` ends it in any case.
        temperature: Of the sampling; 0 is greedy.
        top_p: Nucleus.
    """
    import torch

    with torch.inference_mode():
        for work in works:
            work.known = store.find(work.prefix)
            if work.known is not None:
                # The last token is computed in any case, for it gives the next one's distribution.
                work.taken = min(work.known.stop, len(work.prefix) - 1)
        batch = _Batch(model, works, store)
        batch.prefill()
        rows = batch.fan_out(works)
        drawn = [Drawn() for _ in rows]
        while batch.alive:
            column = len(drawn[batch.alive[0]].tokens)
            numbers = torch.from_numpy(uniforms[batch.alive, column])
            chosen = choose_tokens(batch.logits, numbers, temperature, top_p)
            logps = _logps(batch.logits, chosen)
            for row, token, logp in zip(batch.alive, chosen.tolist(), logps, strict=True):
                one = drawn[row]
                one.tokens.append(token)
                one.logps.append(logp)
                kept = done(row, one.tokens)
                one.kept = kept or (len(one.tokens) if column + 1 == uniforms.shape[1] else 0)
            batch.step(chosen, drawn)
    store.shrink()
    return drawn


def _logps(logits: Tensor, chosen: Tensor) -> list[float]:
    scores = logits.double()
    found: list[float] = (scores.gather(1, chosen[:, None]).squeeze(1) - scores.logsumexp(1)).tolist()
    return [min(value, 0.0) for value in found]  # a sum that is rounded up may give 1e-17


class _Batch:
    """Cache, attention bias and logits of the rows that are still drawn."""

    def __init__(self, model: Any, works: Sequence[Work], store: KVStore) -> None:
        self.model = model
        self.works = works
        self.store = store
        self.device = model.device
        self.stored = max(work.taken for work in works)
        self.width = max(len(work.prefix) - work.taken for work in works)
        self.owner: list[Work] = []
        self.alive: list[int] = []
        self.logits: Any = None

    def prefill(self) -> None:
        """Computes what is not stored of each prefix, and stores it where it was not."""
        import torch

        self.cache = self._cache()
        size = self.stored + self.width
        ids = np.zeros((len(self.works), self.width), dtype=np.int64)
        mask = np.zeros((len(self.works), size), dtype=np.bool_)
        positions = np.zeros((len(self.works), self.width), dtype=np.int64)
        for i, work in enumerate(self.works):
            new = len(work.prefix) - work.taken
            ids[i, self.width - new :] = work.prefix[work.taken :]
            positions[i, self.width - new :] = np.arange(work.taken, len(work.prefix))
            mask[i, self.stored - work.taken : self.stored] = True
            mask[i, size - new :] = True
        self.positions = torch.tensor([[len(work.prefix)] for work in self.works], device=self.device)
        self.bias = self._bias(torch.from_numpy(mask).to(self.device))
        self._forward(torch.from_numpy(ids).to(self.device), torch.from_numpy(positions).to(self.device))
        # From here on one column more a token: what may be attended to is a matter of the row alone.
        self.bias = self.bias[:, :, -1:]
        fresh = [
            i for i, work in enumerate(self.works) if work.known is None and work.store and self.store.limit
        ]
        values = self._values(fresh)
        for place, i in enumerate(fresh):
            work = self.works[i]
            part = values[:, place, :, size - len(work.prefix) :].clone()
            work.known = self.store.put(work.prefix, None, 0, part)

    def _bias(self, mask: Tensor) -> Tensor:
        """What is added to attention scores, (rows, 1, new tokens, slots): 0, or the least number.

        A gap attends to itself, for a softmax over nothing would be no number.
        """
        import torch

        slots = torch.arange(mask.shape[1], device=self.device)
        asking = slots[self.stored :, None]
        seen = (slots <= asking) & mask[:, None, :] | (slots == asking)
        bias = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
        return bias.masked_fill(~seen, torch.finfo(self.model.dtype).min)[:, None]

    def _cache(self) -> Any:
        """A cache that holds what is stored of the prefixes."""
        import torch
        from transformers import DynamicCache

        from alignment.search.slots import SlotLayer

        cache = DynamicCache(config=self.model.config)
        cache.layers = [SlotLayer() for _ in range(self.model.config.get_text_config().num_hidden_layers)]
        if not self.stored:
            return cache
        sample = next(work.known for work in self.works if work.known is not None)
        both, heads, _, size = sample.values.shape
        shape = (both, len(self.works), heads, self.stored, size)
        values = torch.zeros(shape, dtype=sample.values.dtype, device=sample.values.device)
        for i, work in enumerate(self.works):
            if work.known is not None:
                work.known.copy_into(values[:, i], work.taken)
        for layer, keys, its_values in zip(cache.layers, values[0::2], values[1::2], strict=True):
            layer.update(keys, its_values)
        return cache

    def _values(self, rows: Sequence[int], first: int = 0) -> Tensor:
        """Keys and values of some rows from slot `first` on, (2 x layers, rows, heads, slots, size)."""
        import torch

        wanted = torch.tensor(list(rows), dtype=torch.long, device=self.device)
        sides = [side for layer in self.cache.layers for side in (layer.keys, layer.values)]
        return torch.stack([side[:, :, first:].index_select(0, wanted) for side in sides])

    def fan_out(self, works: Sequence[Work]) -> list[int]:
        """Repeats each prefix's row for its continuations; numbers of the rows."""
        import torch

        counts = torch.tensor([work.count for work in works], device=self.device)
        rows = torch.repeat_interleave(torch.arange(len(works), device=self.device), counts)
        self.owner = [work for work in works for _ in range(work.count)]
        self.alive = list(range(len(self.owner)))
        self.cache.batch_select_indices(rows)
        self.logits, self.bias, self.positions = self.logits[rows], self.bias[rows], self.positions[rows]
        return list(self.alive)

    def step(self, chosen: Tensor, drawn: Sequence[Drawn]) -> None:
        """Lets finished rows go and computes the next distribution of the others."""
        import torch

        finished = [place for place, row in enumerate(self.alive) if drawn[row].kept]
        if finished:
            self._keep(finished, drawn)
            chosen = chosen[self._depart(finished)]
            if not self.alive:
                return
        self.bias = torch.cat([self.bias, self.bias.new_zeros((len(self.alive), 1, 1, 1))], dim=3)
        self._forward(chosen[:, None], self.positions)
        self.positions = self.positions + 1

    def _depart(self, finished: Sequence[int]) -> Tensor:
        """Takes rows out of the batch; gives the places, before, of those that stay."""
        import torch

        from alignment.search.slots import departures

        sources, holes = departures(finished, len(self.alive))
        places = list(range(len(self.alive) - len(finished)))
        for source, hole in zip(sources, holes, strict=True):
            places[hole] = source
        for layer in self.cache.layers:
            layer.leave(sources, holes, len(places))
        self.alive = [self.alive[place] for place in places]
        stay = torch.tensor(places, dtype=torch.long, device=self.device)
        self.bias, self.positions = self.bias[stay], self.positions[stay]
        return stay

    def _forward(self, ids: Tensor, positions: Tensor) -> None:
        out = self.model(
            input_ids=ids,
            attention_mask=self.bias,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = out.logits[:, -1]

    def _keep(self, places: Sequence[int], drawn: Sequence[Drawn]) -> None:
        """Stores what departing rows computed of the tokens that they keep."""
        parts: list[tuple[int, Prefix, Segment, int, int]] = []
        for place in places:
            row = self.alive[place]
            work, one = self.owner[row], drawn[row]
            if not work.store or work.known is None:
                continue
            length = len(work.prefix)
            stop = length + min(one.kept, len(one.logps) - 1)
            if stop > work.known.stop:
                shift = self.stored + self.width - length
                key = (*work.prefix, *one.tokens[: one.kept])
                parts.append((place, key, work.known, work.known.stop + shift, stop + shift))
        if not parts or not self.store.limit:
            return
        low = min(first for *_, first, _ in parts)
        values = self._values([place for place, *_ in parts], low)
        for i, (_, key, known, first, last) in enumerate(parts):
            self.store.put(key, known, known.stop, values[:, i, :, first - low : last - low].clone())
