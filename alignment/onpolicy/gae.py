"""Rewards by token and generalised advantage estimation (Schulman et al. 2015, arXiv 1506.02438, eq. 16)."""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.onpolicy.rows import check_right_padded, check_same
from codegen_eval.errors import CodealignError


def missing_eos_penalty(scores: Tensor, has_eos: Tensor, penalty: float) -> Tensor:
    """Scores, less a constant where the answer did not end by itself; all (batch,)."""
    check_same(scores=scores, has_eos=has_eos)
    return torch.where(has_eos.bool(), scores, scores - penalty)


def token_rewards(scores: Tensor, mask: Tensor, kl: Tensor | None = None, *, beta: float = 0.0) -> Tensor:
    """-beta x KL at every token, and the score on the last one (InstructGPT, arXiv 2203.02155, eq. 2).

    Args:
        scores: (batch,).
        mask: (batch, tokens), right-padded; a row without tokens gets no score.
        kl: Estimates by token, (batch, tokens), detached; may be absent where beta is 0.
        beta: KL coefficient.

    Returns:
        (batch, tokens), 0 where masked.

    Raises:
        CodealignError: For shapes that do not fit, masks with gaps, or beta without KL.
    """
    check_right_padded(mask)
    if scores.shape != mask.shape[:1]:
        raise CodealignError(f"{len(mask)} rows need as many scores, got shape {list(scores.shape)}")
    if beta != 0 and kl is None:
        raise CodealignError(f"beta is {beta}, so the KL by token is needed; give kl, or beta 0")
    kept = mask.bool()
    last = kept & ~torch.cat([kept[:, 1:], torch.zeros_like(kept[:, :1])], dim=1)
    rewards = torch.where(last, scores[:, None], 0.0)
    if kl is not None and beta != 0:
        check_same(kl=kl, mask=mask)
        rewards = rewards - beta * torch.where(kept, kl, 0.0)
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Advantages and returns by token, both (batch, tokens), 0 where masked.

    delta_t = r_t + gamma V_{t+1} - V_t; A_t = delta_t + gamma lam A_{t+1}; the value after the last token is
    0: nothing is bootstrapped. returns = A + V, taken before any whitening.

    Args:
        rewards: (batch, tokens), detached.
        values: (batch, tokens): at t the value of the state in which token t is chosen, detached.
        mask: (batch, tokens), right-padded.
        gamma: Discount, from 0 to 1.
        lam: 1 is reward-to-go minus value, 0 the one-step error.

    Raises:
        CodealignError: For shapes that do not fit, masks with gaps, or gamma or lam outside [0, 1].
    """
    check_same(rewards=rewards, values=values, mask=mask)
    check_right_padded(mask)
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not 0 <= value <= 1:
            raise CodealignError(f"{name} is {value}: give a number from 0 to 1")
    kept = mask.bool()
    rewards, values = torch.where(kept, rewards, 0.0), torch.where(kept, values, 0.0)
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = torch.where(kept, rewards + gamma * following - values, 0.0)
    columns, running = [], deltas.new_zeros(len(deltas))
    for t in range(deltas.shape[1] - 1, -1, -1):
        running = deltas[:, t] + gamma * lam * running
        columns.append(running)
    advantages = torch.stack(columns[::-1], dim=1) if columns else deltas
    return advantages, torch.where(kept, advantages + values, 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over the tokens: 1 for a perfect critic; NaN if constant."""
    check_same(values=values, returns=returns, mask=mask)
    kept = mask.bool()
    target = returns[kept].double()
    if len(target) < 2 or target.var() == 0:
        return torch.tensor(float("nan"), dtype=torch.float64, device=values.device)
    return 1 - (target - values[kept].double()).var() / target.var()
