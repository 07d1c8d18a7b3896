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
    from transformers import DynamicCache

    ids, mask = _left_padded([d.prompt_ids for d in drawings], model.device)
    draws, greedy = _uniforms(drawings, max_new_tokens)
    cache = DynamicCache(config=model.config)
    logits = _forward(model, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
    repeats = torch.tensor([len(d.randoms) + d.greedy for d in drawings], device=ids.device)
    rows = torch.repeat_interleave(torch.arange(len(drawings), device=ids.device), repeats)
    cache.batch_select_indices(rows)
    logits, mask = logits[rows], mask[rows]
    alive = list(range(len(rows)))
    output = [Drawn([], False, []) for _ in alive]
    done = [False] * len(alive)
    for step in range(max_new_tokens):
        chosen, found = _chosen(logits, draws[alive, step], greedy[alive], temperature, top_p, logps)
        for row, token, logp in zip(alive, chosen.tolist(), found, strict=True):
            if done[row]:
                continue
            sample = output[row]
            sample.ids.append(token)
            if logps:
                sample.logps.append(logp)
            done[row] = token in ends or (stopped is not None and stopped(sample.ids))
        left = [i for i, row in enumerate(alive) if not done[row]]
        if not left or step + 1 == max_new_tokens:
            break
        if len(left) <= (1 - _DEPART) * len(alive):
            keep = torch.tensor(left, device=ids.device)
            cache.batch_select_indices(keep)
            chosen, mask, alive = chosen[keep], mask[keep], [alive[i] for i in left]
        mask = torch.cat([mask, mask.new_ones((len(alive), 1))], dim=1)
        logits = _forward(model, chosen.unsqueeze(1), mask, mask.sum(1, keepdim=True) - 1, cache)
    whole = iter([Drawn(s.ids, ended, s.logps) for s, ended in zip(output, done, strict=True)])
    return [[next(whole) for _ in range(int(n))] for n in repeats]


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
