"""The decoding loop: token ids of many samples of many prompts, with a cache that shrinks as rows finish.

Token ids come back as they were drawn, the end token included, with the logarithm of the probability with
which each was drawn: what training on samples needs and text alone cannot give.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen_eval.generation.sampling import choose_tokens, token_logps

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# Rows leave when this share of the batch is finished: each departure copies the cache once.
_DEPART = 0.1


@dataclass(frozen=True, slots=True)
class Drawing:
    """One prompt and how many completions of it are wanted.

    Attributes:
        prompt_ids: Its tokens, at least one.
        randoms: A generator of uniform numbers for each sampled completion.
        greedy: Whether to add the greedy completion; it comes last.
    """

    prompt_ids: Sequence[int]
    randoms: Sequence[np.random.Generator]
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Drawn:
    """One completion.

    Attributes:
        ids: Tokens as drawn: up to and with the end token, or the one that completed a stop text.
        ended: An end token or a stop text ended it; False where it ran into the length limit.
        logps: Of each token under the distribution it was drawn from (temperature and nucleus in it), in
            nats; empty where they were not asked for. 0 for greedy tokens, which were certain.
    """

    ids: list[int]
    ended: bool
    logps: list[float]


def decode(
    model: Any,
    drawings: Sequence[Drawing],
    *,
    ends: Collection[int],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    stopped: Callable[[list[int]], bool] | None = None,
    logps: bool = False,
) -> list[list[Drawn]]:
    """Draws all completions in one batch; call it without gradients.

    Args:
        model: A causal language model that takes a cache.
        drawings: What is wanted.
        ends: End tokens.
        max_new_tokens: Where a completion ends at the latest.
        temperature: Of sampled completions, above 0 where there are any.
        top_p: Nucleus of sampled completions.
        stopped: Says of a completion's tokens whether it has reached a stop text.
        logps: Whether to give `Drawn.logps`.

    Returns:
        For each drawing its completions, the greedy one last.
    """
    import torch

    rows = Rows.of(model, [d.prompt_ids for d in drawings])
    draws, greedy = _uniforms(drawings, max_new_tokens)
    repeats = torch.tensor([len(d.randoms) + d.greedy for d in drawings], device=model.device)
    rows.select(torch.repeat_interleave(torch.arange(len(drawings), device=model.device), repeats))
    output = [Drawn([], False, []) for _ in range(len(rows))]
    ended = [False] * len(rows)
    latest: dict[int, float] = {}

    def choose(logits: Tensor, alive: list[int], step: int) -> Tensor:
        chosen, found = _chosen(logits, draws[alive, step], greedy[alive], temperature, top_p, logps)
        latest.update(zip(alive, found, strict=True))
        return chosen

    def take(row: int, token: int, step: int) -> bool:
        sample = output[row]
        sample.ids.append(token)
        if logps:
            sample.logps.append(latest[row])
        ended[row] = token in ends or (stopped is not None and stopped(sample.ids))
        return ended[row]

    rows.draw(max_new_tokens, choose, take)
    whole = iter([Drawn(s.ids, end, s.logps) for s, end in zip(output, ended, strict=True)])
    return [[next(whole) for _ in range(int(n))] for n in repeats]


@dataclass
class Rows:
    """Rows of tokens that a model has read, ready to be drawn from; call all of it without gradients.

    Attributes:
        model: A causal language model that takes a cache.
        cache: Its keys and values.
        mask: What each row sees of the cache, (rows, tokens).
        logits: Of the next token, (rows, vocabulary).
    """

    model: Any
    cache: Any
    mask: Tensor
    logits: Tensor

    @classmethod
    def of(cls, model: Any, prompts: Sequence[Sequence[int]]) -> Rows:
        """Reads prompts of at least one token each, padded on their left."""
        from transformers import DynamicCache

        ids, mask = _left_padded(prompts, model.device)
        cache = DynamicCache(config=model.config)
        return cls(model, cache, mask, _forward(model, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.mask)

    def select(self, indices: Tensor) -> None:
        """Goes on with these rows, in this order; one may come several times."""
        self.cache.batch_select_indices(indices)
        self.logits, self.mask = self.logits[indices], self.mask[indices]

    def feed(self, ids: Tensor) -> None:
        """Reads `ids`, (rows, n), behind the rows."""
        import torch

        self.mask = torch.cat([self.mask, self.mask.new_ones(ids.shape)], dim=1)
        first = self.mask.sum(1, keepdim=True) - ids.shape[1]
        positions = first + torch.arange(ids.shape[1], device=ids.device)
        self.logits = _forward(self.model, ids, self.mask, positions, self.cache)

    def draw(
        self,
        longest: int,
        choose: Callable[[Tensor, list[int], int], Tensor],
        take: Callable[[int, int, int], bool],
    ) -> None:
        """Token after token until every row is finished; finished ones leave the batch, some at a time.

        Args:
            longest: Most tokens of a row.
            choose: Gives each row's next token from the logits, the rows' numbers and the step.
            take: Gets a row's number, its token and the step; whether the row is finished by it.
        """
        import torch

        alive = list(range(len(self)))
        done = [False] * len(alive)
        for step in range(longest):
            chosen = choose(self.logits, alive, step)
            for row, token in zip(alive, chosen.tolist(), strict=True):
                done[row] = done[row] or take(row, token, step)
            left = [i for i, row in enumerate(alive) if not done[row]]
            if not left or step + 1 == longest:
                return
            if len(left) <= (1 - _DEPART) * len(alive):
                keep = torch.tensor(left, device=chosen.device)
                self.select(keep)
                chosen, alive = chosen[keep], [alive[i] for i in left]
            self.feed(chosen.unsqueeze(1))


def _chosen(
    logits: Tensor, uniforms: Tensor, greedy: Tensor, temperature: float, top_p: float, logps: bool
) -> tuple[Tensor, list[float]]:
    """The next token of each row, and its log-probability where asked for."""
    import torch

    if bool(greedy.all()):
        return choose_tokens(logits, uniforms, 0.0, top_p), [0.0] * len(logits)
    chosen = choose_tokens(logits, uniforms, temperature, top_p)
    if bool(greedy.any()):
        chosen = torch.where(greedy.to(chosen.device), logits.argmax(dim=-1), chosen)
    if not logps:
        return chosen, [0.0] * len(logits)
    found = token_logps(logits, chosen, temperature, top_p)
    return chosen, torch.where(greedy.to(found.device), 0.0, found).tolist()


def _left_padded(rows: Sequence[Sequence[int]], device: Any) -> tuple[Tensor, Tensor]:
    """Prompt tokens and their mask, both (prompts, longest)."""
    import torch

    width = max(map(len, rows))
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _uniforms(drawings: Sequence[Drawing], length: int) -> tuple[Tensor, Tensor]:
    """Random numbers of every row and step, (rows, length), and which rows are greedy, (rows,)."""
    import numpy as np
    import torch

    numbers, greedy = [], []
    for drawing in drawings:
        numbers += [random.random(length) for random in drawing.randoms]
        greedy += [False] * len(drawing.randoms)
        if drawing.greedy:
            numbers.append(np.zeros(length))
            greedy.append(True)
    return torch.from_numpy(np.stack(numbers)), torch.tensor(greedy)


def _forward(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits of the next token, (rows, vocabulary); the cache grows by `ids`."""
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = out.logits[:, -1]
    return logits
