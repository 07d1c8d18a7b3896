"""Drawing tokens from logits with randomness that belongs to each sample, not to the batch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def sample_generator(seed: int, key: str, sample: int) -> np.random.Generator:
    """The generator of one sample; independent of how samples are batched or spread over workers."""
    digest = hashlib.sha256(f"{seed}/{key}/{sample}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def sample_seed(seed: int, key: str, sample: int) -> int:
    """A seed for engines that draw themselves: 31 bits, which every one of them takes."""
    digest = hashlib.sha256(f"{seed}/{key}/{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def choose_tokens(logits: Tensor, uniforms: Tensor, temperature: float, top_p: float) -> Tensor:
    """Inverse-CDF sampling from temperature-scaled, nucleus-truncated logits.

    Args:
        logits: (rows, vocabulary).
        uniforms: One number in [0, 1) for each row, float64.
        temperature: Divides the logits; 0 takes the most likely token (lowest index on ties).
        top_p: Keeps the most likely tokens until their probabilities reach this.

    Returns:
        Token indices, (rows,).
    """
    import torch

    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    order: Tensor | None = None
    if top_p < 1:
        probabilities, order = probabilities.sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    target = uniforms.to(cumulative.device).unsqueeze(-1) * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    # A target equal to the total (rounding) must not point behind the last token with any probability.
    last = (probabilities > 0).double().cumsum(dim=-1).argmax(dim=-1)
    chosen = torch.minimum(chosen, last)
    return chosen if order is None else order.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def token_logps(logits: Tensor, tokens: Tensor, temperature: float, top_p: float) -> Tensor:
    """Log-probabilities of tokens under the distribution that `choose_tokens` draws from, in nats, (rows,).

    Args:
        logits: (rows, vocabulary).
        tokens: (rows,).
        temperature: Above 0.
        top_p: Tokens outside the nucleus get -inf; the others share its probability.
    """
    logps = (logits.double() / temperature).log_softmax(dim=-1)
    wanted = logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    if top_p >= 1:
        return wanted
    ordered, order = logps.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.exp()
    inside = probabilities.cumsum(dim=-1) - probabilities < top_p
    kept = (probabilities * inside).sum(dim=-1)
    place = (order == tokens.unsqueeze(-1)).double().argmax(dim=-1, keepdim=True)
    found = inside.gather(-1, place).squeeze(-1)
    return (wanted - kept.log()).masked_fill(~found, float("-inf"))
