"""Log-probabilities by chunks are those of the full logits, with their gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alignment.losses.tokens import sequence_kl
from alignment.preference.logprobs import STATISTICS, token_kl, token_scores

TOKENS, WIDTH, VOCABULARY = 11, 6, 17


def inputs(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(TOKENS, WIDTH, generator=draw, dtype=torch.float64).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=draw, dtype=torch.float64).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=draw, dtype=torch.float64).requires_grad_()
    return hidden, weight, bias, torch.randint(VOCABULARY, (TOKENS,), generator=draw)


def full(hidden: Any, weight: Any, bias: Any, scale: float, softcap: float | None) -> torch.Tensor:
    logits = (hidden @ weight.t() + (0 if bias is None else bias)) * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize(
    ("scale", "softcap", "with_bias"), [(1.0, None, False), (0.25, None, True), (2.0, 3.0, True)]
)
def test_chunks_give_the_log_probabilities_and_gradients_of_full_logits(
    rows: int, scale: float, softcap: float | None, with_bias: bool
) -> None:
    hidden, weight, bias, targets = inputs()
    used = bias if with_bias else None
    leaves = [hidden, weight, *([bias] if with_bias else [])]
    pull = torch.linspace(-1, 2, TOKENS, dtype=torch.float64)
    expected = full(hidden, weight, used, scale, softcap).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    wanted = torch.autograd.grad((expected * pull).sum(), leaves)
    scores = token_scores(
        hidden, weight, targets, used, scale=scale, softcap=softcap, chunk=rows * VOCABULARY
    )
    assert torch.allclose(scores["logps"], expected, atol=1e-12, rtol=0)
    found = torch.autograd.grad((scores["logps"] * pull).sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-12, rtol=0)


def test_statistics_are_what_their_names_say_and_carry_no_gradient() -> None:
    hidden, weight, _, targets = inputs(1)
    scores = token_scores(hidden, weight, targets, squares=True, chunk=3 * VOCABULARY)
    logits = hidden @ weight.t()
    p = logits.softmax(-1)
    assert torch.allclose(scores["entropy"], -(p * p.log()).sum(-1))
    assert torch.allclose(scores["mean_logits"], logits.mean(-1))
    assert torch.equal(scores["top1"], logits.argmax(-1) == targets)
    assert torch.allclose(scores["log_sum_p2"], (p * p).sum(-1).log())
    assert not any(scores[name].requires_grad for name in (*STATISTICS, "log_sum_p2"))
    bare = token_scores(hidden, weight, targets, statistics=False, chunk=3 * VOCABULARY)
    assert torch.equal(bare["logps"], scores["logps"]) and set(bare) == {"logps"}


def test_no_tokens_at_all_are_no_error() -> None:
    hidden, weight, _, targets = inputs()
    scores = token_scores(hidden[:0], weight, targets[:0])
    assert scores["logps"].shape == (0,)
    scores["logps"].sum().backward()
    assert weight.grad is not None and not weight.grad.any()


def test_bfloat16_states_are_reduced_in_float32() -> None:
    hidden, weight, _, targets = (part.detach() for part in inputs())
    low = [part.to(torch.bfloat16).requires_grad_() for part in (hidden, weight)]
    scores = token_scores(low[0], low[1], targets)
    exact = (low[0] @ low[1].t()).float().log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert scores["logps"].dtype == torch.float32
    assert torch.allclose(scores["logps"], exact, atol=1e-6)
    scores["logps"].sum().backward()
    assert low[1].grad is not None and low[1].grad.dtype == torch.bfloat16


def test_divergences_by_chunks_are_those_of_full_logits() -> None:
    hidden, weight, _, _ = inputs()
    ref_hidden, ref_weight, _, _ = inputs(5)
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    logits = (hidden @ weight.t())[None]
    expected = sequence_kl(logits, (ref_hidden @ ref_weight.t())[None].detach(), mask).sum()
    found = token_kl(hidden, weight, ref_hidden, ref_weight, chunk=4 * VOCABULARY).sum()
    assert torch.allclose(found, expected)
    one = torch.autograd.grad(found, [hidden, weight])
    other = torch.autograd.grad(expected, [hidden, weight])
    assert all(torch.allclose(a, b) for a, b in zip(one, other, strict=True))
