"""Losses: ratio 1 on the first pass, no dependence on micro-batches, clips where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from alignment.onpolicy.losses import (
    aggregate,
    batch_size,
    log_ratios,
    ppo_losses,
    ratio_figures,
    reinforce_losses,
    value_losses,
)
from codegen_eval.errors import CodealignError

LENGTHS = torch.tensor([6, 1, 3, 0, 4, 2])
MASK = torch.arange(6) < LENGTHS[:, None]
AGGREGATIONS = ("token_mean", "sequence_sum", "sequence_mean", "constant")


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_on_the_first_pass_the_ratio_is_exactly_1_and_the_gradient_that_of_reinforce() -> None:
    start, advantages = -rand(6, 6).abs(), rand(6, 6, seed=1)
    for level in ("token", "sequence_sum", "sequence_mean"):
        result = ppo_losses(start, start, advantages, MASK, level=level)  # type: ignore[arg-type]
        figures = ratio_figures(result, start, start, MASK)
        assert figures == {"ratio": 1.0, "ratio_max": 1.0, "clip_fraction": 0.0, "approxkl": 0.0}
    logps = start.clone().requires_grad_()
    gradients = [
        torch.autograd.grad(losses.sum(), logps)[0]
        for losses in (
            ppo_losses(logps, start, advantages, MASK).losses,
            reinforce_losses(logps, advantages, MASK),
        )
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_splitting_a_batch_changes_neither_loss_nor_gradient(how: str) -> None:
    start, advantages = -rand(6, 6).abs(), rand(6, 6, seed=1)
    limit = 8 if how == "constant" else None

    def run(parts: list[slice]) -> tuple[float, Tensor]:
        logps = (start + 0.3 * rand(6, 6, seed=2)).requires_grad_()
        total = sum(batch_size(MASK[part], how) for part in parts)  # type: ignore[arg-type]
        value = 0.0
        for part in parts:
            losses = ppo_losses(logps[part], start[part], advantages[part], MASK[part]).losses
            loss = aggregate(losses, MASK[part], how, total, max_length=limit)  # type: ignore[arg-type]
            loss.backward()
            value += loss.item()
        assert logps.grad is not None
        return value, logps.grad

    whole = run([slice(0, 6)])
    for parts in ([slice(0, 1), slice(1, 6)], [slice(i, i + 1) for i in range(6)]):
        value, gradient = run(parts)
        assert value == pytest.approx(whole[0], rel=1e-12)
        torch.testing.assert_close(gradient, whole[1], rtol=1e-12, atol=1e-14)
    mine = sum(run([part])[0] for part in (slice(0, 1), slice(1, 6))) / 2
    assert mine != pytest.approx(whole[0], rel=1e-3), "a mean of means would have passed too"


def test_aggregations_are_what_their_names_say() -> None:
    losses = torch.where(MASK, rand(6, 6), 0.0)
    by_row = losses.sum(1)
    expected = {
        "token_mean": losses.sum() / 16,
        "sequence_sum": by_row.sum() / 5,
        "sequence_mean": (by_row / LENGTHS.clamp(min=1)).sum() / 5,
        "constant": by_row.sum() / 5 / 10,
    }
    for how, value in expected.items():
        limit = 10 if how == "constant" else None
        found = aggregate(losses, MASK, how, batch_size(MASK, how), max_length=limit)  # type: ignore[arg-type]
        torch.testing.assert_close(found, value)


def test_clips_bind_on_the_side_where_the_policy_gains_already() -> None:
    old = torch.zeros(1, 4, dtype=torch.float64)
    logps = torch.tensor([[2.0, 2.0, 0.5, 0.5]], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.float64)
    mask = torch.ones(1, 4)
    result = ppo_losses(logps, old, advantages, mask, clip=0.2, clip_high=0.3)
    assert result.losses.tolist() == [pytest.approx([-1.3, 2.0, -0.5, 0.8])]
    assert result.clipped.tolist() == [[1, 0, 0, 1]]
    (gradient,) = torch.autograd.grad(result.losses.sum(), logps)
    assert (gradient != 0).tolist() == [[False, True, True, False]]


def test_dual_clip_bounds_the_loss_of_bad_tokens_with_huge_ratios() -> None:
    logps = torch.tensor([[50.0, 50.0, 2.0]], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([[-1.0, 1.0, -1.0]], dtype=torch.float64)
    result = ppo_losses(logps, torch.zeros(1, 3), advantages, torch.ones(1, 3), dual_clip=3.0)
    assert result.losses.tolist() == [pytest.approx([3.0, -1.2, 2.0])]
    assert result.clipped.tolist() == [[1, 1, 0]]
    assert torch.autograd.grad(result.losses.sum(), logps)[0][0, 0] == 0


def test_the_value_clip_never_lowers_a_loss() -> None:
    old, new, returns = rand(6, 6), rand(6, 6, seed=1), rand(6, 6, seed=2)
    plain = value_losses(new, old, returns, MASK, clip=None)
    clipped = value_losses(new, old, returns, MASK, clip=0.2)
    torch.testing.assert_close(plain.losses, torch.where(MASK, (new - returns) ** 2 / 2, 0.0))
    assert (clipped.losses >= plain.losses).all() and clipped.clipped.any()
    assert (value_losses(old, old, returns, MASK).clipped == 0).all()


def test_levels_of_the_ratio() -> None:
    logps, old = rand(6, 6), rand(6, 6, seed=1)
    difference = torch.where(MASK, logps - old, 0.0)
    assert (log_ratios(logps, old, MASK) == difference).all()
    whole = log_ratios(logps, old, MASK, "sequence_sum")
    torch.testing.assert_close(whole[0], difference[0].sum().expand(6))
    mean = log_ratios(logps, old, MASK, "sequence_mean")
    torch.testing.assert_close(mean[2, :3], difference[2, :3].mean().expand(3))
    assert (whole[~MASK] == 0).all() and (mean[~MASK] == 0).all()


def test_what_is_masked_never_counts_in_any_loss() -> None:
    good = [rand(6, 6, seed=i) for i in range(3)]
    spoilt = [torch.where(MASK, x, float("nan")) for x in good]
    for function in (ppo_losses, value_losses):
        pairs = zip(function(*good, MASK).losses, function(*spoilt, MASK).losses, strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert torch.equal(reinforce_losses(*good[:2], MASK), reinforce_losses(*spoilt[:2], MASK))
    for loss in (
        lambda x: ppo_losses(x, *spoilt[1:], MASK).losses,
        lambda x: value_losses(x, *spoilt[1:], MASK).losses,
        lambda x: reinforce_losses(x, spoilt[1], MASK),
    ):
        leaf = spoilt[0].clone().requires_grad_()
        loss(leaf).sum().backward()
        assert leaf.grad is not None and leaf.grad.isfinite().all(), "a masked NaN reached the gradient"
        assert (leaf.grad[~MASK] == 0).all() and (leaf.grad[MASK] != 0).any()


def test_a_step_without_anything_to_learn_from_is_refused() -> None:
    mask = torch.zeros(2, 3)
    for how in ("token_mean", "sequence_sum"):
        with pytest.raises(CodealignError, match="skip the step"):
            aggregate(mask, mask, how, batch_size(mask, how))  # type: ignore[arg-type]
    with pytest.raises(CodealignError, match="max_length"):
        aggregate(rand(6, 6), MASK, "token_mean", 1, max_length=3)
    with pytest.raises(CodealignError, match="dual_clip"):
        ppo_losses(rand(6, 6), rand(6, 6), rand(6, 6), MASK, dual_clip=0.5)
    with pytest.raises(CodealignError, match="one shape"):
        ppo_losses(rand(6, 6), rand(6, 5), rand(6, 6), MASK)
