"""RRHF: rank responses by their rewards, imitate the best one (Yuan et al. 2023, arXiv 2304.05302).

Departs from the authors' code (GanjinZero/RRHF): there padding is counted as if it were text, so that every
candidate is divided by the same padded width and the length normalisation does nothing. Here each is divided
by its own length. To get the code's numbers give the padded width as every candidate's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alignment.onpolicy.rows import check_same
from codegen_eval.errors import CodealignError, unknown

Imitation = Literal["sum", "token_mean"]


@dataclass(frozen=True, slots=True)
class RRHFLoss:
    """The parts of one prompt's loss, scalars with gradient, and the scores p_i, (candidates,).

    `best` is the candidate that is imitated: of the highest reward, the first of equals.
    """

    loss: Tensor
    rank_loss: Tensor
    sft_loss: Tensor
    scores: Tensor
    best: int


def rrhf_loss(
    logps: Tensor,
    lengths: Tensor,
    rewards: Tensor,
    *,
    length_penalty: float = 1.0,
    rank_weight: float = 1.0,
    imitation: Imitation = "sum",
) -> RRHFLoss:
    """rank_weight x sum over r_i < r_j of max(0, p_i - p_j), plus -log pi(best), for one prompt.

    p_i = summed log-probability / length^length_penalty. No margin; equal rewards contribute nothing. Leave
    candidates of unknown reward (None) out before the call.

    Args:
        logps: Summed log-probabilities of the candidates, (candidates,).
        lengths: Their tokens.
        rewards: Finite numbers.
        length_penalty: 1 is the mean by token, 0 the plain sum.
        rank_weight: 1 in the authors' scripts; their class default is 100.
        imitation: "sum" over the best one's tokens (the formula), or "token_mean".

    Raises:
        CodealignError: For unequal shapes, no candidate, an empty one, or a reward that is not finite.
    """
    check_same(logps=logps, lengths=lengths, rewards=rewards)
    if imitation not in get_args(Imitation):
        raise unknown("imitation", imitation, get_args(Imitation))
    if logps.dim() != 1 or not len(logps):
        raise CodealignError(f"RRHF needs the candidates of one prompt, got shape {list(logps.shape)}")
    if (lengths < 1).any() or not rewards.isfinite().all():
        row = int(((lengths < 1) | ~rewards.isfinite()).nonzero()[0])
        raise CodealignError(
            f"candidate {row} has {int(lengths[row])} tokens and reward {rewards[row].item()}: leave out "
            "empty candidates and those of unknown reward"
        )
    scores = logps / lengths.to(logps) ** length_penalty
    worse = rewards[:, None] < rewards[None, :]
    rank_loss = torch.where(worse, (scores[:, None] - scores[None, :]).clamp(min=0), 0.0).sum()
    best = int((rewards == rewards.max()).nonzero()[0])
    sft_loss = -logps[best] if imitation == "sum" else -logps[best] / lengths[best]
    return RRHFLoss(rank_weight * rank_loss + sft_loss, rank_loss, sft_loss, scores.detach(), best)
