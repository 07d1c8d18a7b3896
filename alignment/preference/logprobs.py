"""Log-probabilities of tokens from hidden states, a few rows of logits at a time.

The logits of a batch (tokens x vocabulary) are the largest tensor of preference training and nothing of them
is needed but one number a token. Here a chunk of rows is multiplied by the head, reduced and thrown away; the
backward pass multiplies it once more. Only the positions that predict a completion token come here at all.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from alignment.divided import gathered, is_divided

CHUNK = {"cpu": 1 << 23, "cuda": 1 << 27}
"""Logits that exist at once, by device: 32 MiB in float32, and half a gigabyte where products of few rows
leave the device idle. Each chunk adds to the head's gradient once, so small ones cost time at large
vocabularies."""

STATISTICS = ("entropy", "mean_logits", "top1")


def token_scores(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    statistics: bool = True,
    squares: bool = False,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """What a language model's head says of one target token at each position.

    Args:
        hidden: Last hidden states, shape (tokens, width).
        weight: The head's matrix, shape (vocabulary, width).
        targets: Token ids, shape (tokens,).
        bias: The head's bias, shape (vocabulary,).
        scale: Factor on the logits (Cohere, Granite and others).
        softcap: c of c tanh(logits / c) (Gemma 2).
        statistics: Whether to give `STATISTICS` as well.
        squares: Whether to give `log_sum_p2`, the log of the sum over the vocabulary of p^2, for WPO.
        chunk: Logits that may exist at once; at least one row of them always does. None takes `CHUNK`.

    Returns:
        `logps` (nats, with gradient) and what was asked for (without), each of shape (tokens,), in float32
        or what the hidden states have beyond it.
    """
    names = [*(STATISTICS if statistics else ()), *(("log_sum_p2",) if squares else ())]
    rows = _rows(weight, chunk)
    logps, *rest = _TokenScores.apply(hidden, weight, bias, targets, scale, softcap, rows, tuple(names))
    return {"logps": logps, **dict(zip(names, rest, strict=True))}


def token_kl(
    hidden: Tensor,
    weight: Tensor,
    ref_hidden: Tensor,
    ref_weight: Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
    chunk: int | None = None,
) -> Tensor:
    """KL(reference || policy) at each position over the whole vocabulary, by chunks; shape (tokens,).

    The gradient goes through the policy alone. Heads with a bias do not come here.
    """
    from torch.utils.checkpoint import checkpoint

    def divergence(states: Tensor, head: Tensor, ref_states: Tensor) -> Tensor:
        policy = _capped(states @ head.t(), scale, softcap).log_softmax(-1)
        reference = _capped(ref_states @ ref_weight.detach().t(), scale, softcap).log_softmax(-1)
        return (reference.exp() * (reference - policy)).sum(-1)

    rows = _rows(weight, chunk)
    parts = [
        checkpoint(divergence, states, weight, ref_states.detach(), use_reentrant=False)
        for states, ref_states in zip(hidden.split(rows), ref_hidden.split(rows), strict=True)
    ]
    return torch.cat(parts)


def _capped(logits: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Logits as the model would give them, in float32 at least."""
    logits = logits.to(_accurate(logits.dtype))
    if scale != 1.0:
        logits = logits * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _rows(weight: Tensor, chunk: int | None) -> int:
    """Rows of logits in a chunk."""
    chunk = CHUNK.get(weight.device.type, CHUNK["cuda"]) if chunk is None else chunk
    return max(1, chunk // int(weight.shape[0]))


def _accurate(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _TokenScores(torch.autograd.Function):  # type: ignore[misc]
    """Forward: chunks of logits, reduced to a few numbers a row. Backward: the same chunks once more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        softcap: float | None,
        rows: int,
        names: tuple[str, ...],
    ) -> tuple[Tensor, ...]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        parts: list[list[Tensor]] = []
        normalisers = []
        with _whole(weight, bias), torch.autocast(device, enabled=False):
            for states, wanted in zip(hidden.split(rows), targets.split(rows), strict=True):
                logits = _capped(_product(states, weight, bias, dtype), scale, softcap)
                values, normaliser = _reduce(logits, wanted, names)
                parts.append(values)
                normalisers.append(normaliser)
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        if not columns:  # no token at all
            columns = [hidden.new_zeros(0, dtype=_accurate(dtype)) for _ in ("logps", *names)]
        ctx.save_for_backward(hidden, weight, bias, targets, torch.cat(normalisers) if normalisers else None)
        ctx.settings = (dtype, scale, softcap, rows)
        ctx.mark_non_differentiable(*columns[1:])
        return tuple(columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, normalisers = ctx.saved_tensors
        dtype, scale, softcap, rows = ctx.settings
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        wide = _accurate(dtype)
        with _whole(weight, bias), torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(dtype)
            grad_hidden = torch.empty_like(hidden) if for_hidden else None
            grad_weight = torch.zeros(weight.shape, dtype=wide, device=weight.device) if for_weight else None
            grad_bias = torch.zeros(bias.shape, dtype=wide, device=weight.device) if for_bias else None
            for start in range(0, len(hidden), rows):
                part = slice(start, start + rows)
                states = hidden[part].to(dtype)
                logits = _capped(_product(states, weight, bias, dtype), scale, softcap)
                slope = 1.0 if softcap is None else 1 - (logits / softcap) ** 2
                # d logp / d logits = onehot - p
                grad = logits.sub_(normalisers[part, None]).exp_().mul_(-gradients[0][part, None])
                grad.scatter_add_(1, targets[part, None], gradients[0][part, None].to(wide))
                grad = (grad * slope * scale if softcap is not None or scale != 1.0 else grad).to(dtype)
                if grad_hidden is not None:
                    grad_hidden[part] = (grad @ head).to(hidden.dtype)
                if grad_weight is not None and wide == dtype:
                    grad_weight.addmm_(grad.t(), states)
                elif grad_weight is not None:
                    grad_weight += grad.t() @ states
                if grad_bias is not None:
                    grad_bias += grad.sum(0)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *[None] * 5,
        )


def _product(states: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    return torch.nn.functional.linear(
        states.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    )


def _reduce(logits: Tensor, targets: Tensor, names: tuple[str, ...]) -> tuple[list[Tensor], Tensor]:
    """Log-probability and statistics of each row, and its log normaliser. Overwrites the logits."""
    highest, best = logits.max(-1)
    found = {"top1": best == targets}
    mean = logits.mean(-1) if "mean_logits" in names else highest
    wanted = logits.gather(1, targets[:, None])[:, 0]
    if "entropy" in names:
        powers = (logits - highest[:, None]).exp_()
        total = powers.sum(-1)
        expected = torch.linalg.vecdot(powers, logits) / total
    else:
        powers = logits.sub_(highest[:, None]).exp_()
        total = powers.sum(-1)
        expected = highest
    normaliser = highest + total.log()
    found |= {"entropy": normaliser - expected, "mean_logits": mean}
    if "log_sum_p2" in names:
        found["log_sum_p2"] = torch.linalg.vecdot(powers, powers).log() - 2 * total.log()
    return [wanted - normaliser, *(found[name] for name in names)], normaliser


def _whole(weight: Tensor, bias: Tensor | None) -> AbstractContextManager[Any]:
    """Under ZeRO-3 a process holds a share of the head; here the whole of it is needed."""
    divided: list[Any] = [part for part in (weight, bias) if part is not None and is_divided(part)]
    # A head tied to the embedding can be held by another module just now: it is whole, and not ours to free.
    return gathered(part for part in divided if part.ds_status.name != "AVAILABLE")
