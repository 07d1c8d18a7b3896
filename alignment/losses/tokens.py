"""Losses on log-probabilities by token: which tokens count, and how much.

Each is a rule that weighs tokens, followed by a loss on the weighed sums. Rows are completions, or whole
sequences in which the mask marks the completion; the completions of a pair start in the same column.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from alignment.losses.base import LOSSES, LossResult, not_negative, same_shape
from alignment.losses.logistic import cdpo, dpo
from codegen_eval.errors import CodealignError


def summed(token_logps: Tensor, mask: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over a completion's tokens, each times its weight; shapes (batch, tokens) to (batch,)."""
    same_shape(token_logps, mask, *([] if weights is None else [weights]))
    kept = torch.where(mask.bool(), token_logps, 0.0)
    return (kept if weights is None else kept * weights).sum(-1)


def first_difference(
    chosen_ids: Tensor, rejected_ids: Tensor, chosen_mask: Tensor, rejected_mask: Tensor
) -> Tensor:
    """Position within the completion of the first token that differs, shape (batch,).

    Where one side is the beginning of the other, that is the shorter side's length.

    Raises:
        CodealignError: For sides that are equal, or that do not start in the same column.
    """
    same_shape(chosen_ids, chosen_mask)
    same_shape(rejected_ids, rejected_mask)
    width = max(chosen_ids.shape[1], rejected_ids.shape[1])
    ids = [pad(x, (0, width - x.shape[1])) for x in (chosen_ids, rejected_ids)]
    masks = [pad(x.bool(), (0, width - x.shape[1])) for x in (chosen_mask, rejected_mask)]
    starts = [mask.int().argmax(1) for mask in masks]
    _refuse(starts[0] != starts[1], "do not start in the same column")
    differ = (masks[0] != masks[1]) | (masks[0] & (ids[0] != ids[1]))
    _refuse(~differ.any(1), "are equal: no token differs")
    return differ.int().argmax(1) - starts[0]


def _refuse(rows: Tensor, what: str) -> None:
    if rows.any():
        raise CodealignError(f"the sides of pair {int(rows.nonzero()[0])} of the batch {what}")


@LOSSES.register("step_dpo")
def step_dpo(
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_ids: Tensor,
    rejected_ids: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | Tensor = 0.0,
) -> LossResult:
    """Conservative DPO on the tokens from the first one that differs (2406.18629, 2405.00451)."""
    first = first_difference(chosen_ids, rejected_ids, chosen_mask, rejected_mask)
    chosen_mask = chosen_mask.bool() & (_position(chosen_mask) > first[:, None])
    rejected_mask = rejected_mask.bool() & (_position(rejected_mask) > first[:, None])
    result = cdpo(
        summed(chosen_token_logps, chosen_mask),
        summed(rejected_token_logps, rejected_mask),
        summed(ref_chosen_token_logps, chosen_mask),
        summed(ref_rejected_token_logps, rejected_mask),
        beta=beta,
        label_smoothing=label_smoothing,
    )
    result.extras["first_difference"] = first
    return result


def _position(mask: Tensor) -> Tensor:
    """1 at a completion's first token, then counting; shape (batch, tokens)."""
    return mask.bool().cumsum(1)


@LOSSES.register("ld_dpo")
def ld_dpo(
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    *,
    beta: float = 0.1,
    ld_alpha: float = 0.5,
) -> LossResult:
    """DPO in which tokens beyond the shorter side's length weigh `ld_alpha` (LD-DPO, 2409.06411)."""
    if not 0 <= ld_alpha <= 1:
        raise CodealignError(f"ld_alpha must lie in [0, 1] (given: {ld_alpha})")
    shorter = torch.minimum(chosen_mask.bool().sum(1), rejected_mask.bool().sum(1))[:, None]

    def weights(mask: Tensor, like: Tensor) -> Tensor:
        return torch.where(_position(mask) <= shorter, 1.0, ld_alpha).to(like)

    w, v = weights(chosen_mask, chosen_token_logps), weights(rejected_mask, rejected_token_logps)
    return dpo(
        summed(chosen_token_logps, chosen_mask, w),
        summed(rejected_token_logps, rejected_mask, v),
        summed(ref_chosen_token_logps, chosen_mask, w),
        summed(ref_rejected_token_logps, rejected_mask, v),
        beta=beta,
    )


@LOSSES.register("segment_weighted_dpo")
def segment_weighted_dpo(
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_segments: Tensor,
    rejected_segments: Tensor,
    *,
    beta: float = 0.1,
    segment_weights: Sequence[float] = (1.0, 2.0, 1.0),
) -> LossResult:
    """DPO whose token log ratios weigh by segment, in the manner of Focused-DPO (2502.11475).

    A convention of this project (the paper's exact formula was not at hand): segment 0 is the common prefix,
    1 the differing middle, 2 the common suffix, as `split_segments` gives them.
    """
    not_negative(**{f"segment_weights[{i}]": weight for i, weight in enumerate(segment_weights)})
    table = torch.tensor(list(segment_weights), dtype=chosen_token_logps.dtype, device=chosen_mask.device)
    for segments in (chosen_segments, rejected_segments):
        if segments.numel() and not 0 <= int(segments.min()) <= int(segments.max()) < len(table):
            raise CodealignError(
                f"segments must lie in 0..{len(table) - 1}, as many as segment_weights; "
                f"found {int(segments.min())} to {int(segments.max())}"
            )
    w, v = table[chosen_segments.long()], table[rejected_segments.long()]
    return dpo(
        summed(chosen_token_logps, chosen_mask, w),
        summed(rejected_token_logps, rejected_mask, v),
        summed(ref_chosen_token_logps, chosen_mask, w),
        summed(ref_rejected_token_logps, rejected_mask, v),
        beta=beta,
    )


def split_segments(chosen: Sequence[int], rejected: Sequence[int]) -> tuple[list[int], list[int]]:
    """Segment numbers of two completions' token ids: 0 common prefix, 1 differing middle, 2 common suffix."""
    shorter = min(len(chosen), len(rejected))
    prefix = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter)
    rest = shorter - prefix
    suffix = next((i for i in range(rest) if chosen[-1 - i] != rejected[-1 - i]), rest)
    sizes = [(prefix, len(side) - prefix - suffix, suffix) for side in (chosen, rejected)]
    first, second = ([0] * p + [1] * m + [2] * s for p, m, s in sizes)
    return first, second


@LOSSES.register("wpo")
def wpo(
    chosen_token_logps: Tensor,
    rejected_token_logps: Tensor,
    ref_chosen_token_logps: Tensor,
    ref_rejected_token_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    chosen_log_sum_p2: Tensor | None = None,
    rejected_log_sum_p2: Tensor | None = None,
    *,
    beta: float = 0.1,
) -> LossResult:
    """DPO times both sequences' weights: what the policy would write counts more (2406.11827, eq. 2).

    `*_log_sum_p2` (log of the sum over the vocabulary of p^2, per token) gives the paper's aligned weights;
    without it they are plain. `wpo_weights` alone fits any other loss as per-pair weights.
    """
    if (chosen_log_sum_p2 is None) != (rejected_log_sum_p2 is None):
        raise CodealignError("wpo needs log_sum_p2 of both sides or of none")
    base = dpo(
        summed(chosen_token_logps, chosen_mask),
        summed(rejected_token_logps, rejected_mask),
        summed(ref_chosen_token_logps, chosen_mask),
        summed(ref_rejected_token_logps, rejected_mask),
        beta=beta,
    )
    weights = wpo_weights(chosen_token_logps, chosen_mask, chosen_log_sum_p2) * wpo_weights(
        rejected_token_logps, rejected_mask, rejected_log_sum_p2
    )
    return LossResult(
        base.losses * weights, base.chosen_rewards, base.rejected_rewards, extras={"weights": weights}
    )


def wpo_weights(token_logps: Tensor, mask: Tensor, log_sum_p2: Tensor | None = None) -> Tensor:
    """Exponential of the mean over tokens of log p, or of log p - log sum p^2; no gradient, shape (batch,).

    Raises:
        CodealignError: For an empty completion.
    """
    lengths = mask.bool().sum(1)
    _refuse(lengths < 1, "include an empty one")
    values = token_logps if log_sum_p2 is None else token_logps - log_sum_p2
    return torch.exp(summed(values.detach(), mask) / lengths)


def sequence_kl(logits: Tensor, ref_logits: Tensor, mask: Tensor) -> Tensor:
    """Sum over the completion's positions of KL(ref || policy), for `tdpo1` and `tdpo2`.

    Args:
        logits: Of the policy, shape (batch, tokens, vocabulary); the gradient goes through them.
        ref_logits: Of the reference.
        mask: Which positions predict a completion token, shape (batch, tokens).

    Raises:
        CodealignError: For unequal shapes, e.g. a reference with another vocabulary.
    """
    same_shape(logits, ref_logits)
    policy, reference = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    return summed((reference.exp() * (reference - policy)).sum(-1), mask)


def visit_smoothing(chosen_visits: Tensor, rejected_visits: Tensor, *, capped: bool = True) -> Tensor:
    """Per-pair label smoothing from a tree search's visit counts (MCTS-DPO, 2405.00451).

    N_l / (N_w + N_l), 0.5 where both are 0. The cap, as in the authors' code, is 0.5, above which a pair
    would be turned round; N_w counts as at least 1 there.
    """
    chosen, rejected = chosen_visits.double(), rejected_visits.double()
    not_negative(visits=float(torch.minimum(chosen, rejected).min()))
    if capped:
        return (1 - 1 / (1 + rejected / chosen.clamp(min=1))).clamp(max=0.5)
    total = chosen + rejected
    return torch.where(total > 0, rejected / total.clamp(min=1e-300), 0.5)
