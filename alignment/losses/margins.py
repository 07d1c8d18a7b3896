"""Hinge and squared losses, and losses on sorted margins. Notation as in logistic.py."""

from __future__ import annotations

import torch
from torch import Tensor

from alignment.losses.base import (
    LOSSES,
    LossResult,
    log_ratio,
    mean_logps,
    minus,
    not_negative,
    positive,
    probability,
)
from alignment.losses.logistic import scaled, smoothed
from codegen_eval.errors import CodealignError


@LOSSES.register("hinge")
def hinge(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """max(0, 1 - beta h): SLiC's hinge (2305.10425) on log ratios."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return LossResult(torch.relu(1 - beta * minus(a, b)), *scaled(beta, a, b))


@LOSSES.register("slic_hf")
def slic_hf(
    chosen_logps: Tensor, rejected_logps: Tensor, *, delta: float = 1.0, reg: float = 0.1
) -> LossResult:
    """max(0, d - log pi(chosen) + log pi(rejected)) - reg log pi(chosen) (2305.10425)."""
    not_negative(delta=delta, reg=reg)
    losses = torch.relu(delta - minus(chosen_logps, rejected_logps)) - reg * chosen_logps
    return LossResult(losses, chosen_logps.detach(), rejected_logps.detach())


@LOSSES.register("ipo")
def ipo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    tau: float = 0.1,
) -> LossResult:
    """(h - 1/(2 tau))^2 on summed log ratios (2310.12036, eq. 17)."""
    positive(tau=tau)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return LossResult((minus(a, b) - 1 / (2 * tau)) ** 2, *scaled(tau, a, b))


@LOSSES.register("ipo_avg")
def ipo_avg(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    *,
    tau: float = 0.1,
) -> LossResult:
    """(a/|chosen| - b/|rejected| - 1/(2 tau))^2: IPO per token, as its authors ran it; TRL's `ipo`."""
    positive(tau=tau)
    a = mean_logps(log_ratio(chosen_logps, ref_chosen_logps), chosen_lengths)
    b = mean_logps(log_ratio(rejected_logps, ref_rejected_logps), rejected_lengths)
    return LossResult((minus(a, b) - 1 / (2 * tau)) ** 2, *scaled(tau, a, b))


@LOSSES.register("sppo")
def sppo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 1e-3,
    win_prob: float | Tensor = 1.0,
) -> LossResult:
    """(a - (P - 1/2)/beta)^2 + (b - (1/2 - P)/beta)^2: self-play (2405.00675, eq. 4.7).

    `win_prob` is P, how probably chosen beats rejected, a number or one a pair; 1 is TRL's `sppo_hard`.
    """
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    p = probability("win_prob", win_prob, minus(a, b), 1.0)
    losses = (a - (p - 0.5) / beta) ** 2 + (b - (0.5 - p) / beta) ** 2
    return LossResult(losses, *scaled(beta, a, b))


@LOSSES.register("aot")
def aot(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> LossResult:
    """Conservative DPO on sorted margins, the policy's against the reference's (2406.05882).

    The losses come in quantile order, not in the order of the pairs: per-pair weights do not fit.
    """
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    policy = minus(chosen_logps, rejected_logps).sort().values
    reference = minus(ref_chosen_logps, ref_rejected_logps).sort().values
    losses = smoothed(beta * (policy - reference), _scalar(label_smoothing))
    return LossResult(losses, *scaled(beta, a, b))


@LOSSES.register("aot_unpaired")
def aot_unpaired(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> LossResult:
    """Conservative DPO on sorted a minus sorted b (2406.05882); losses in quantile order, as `aot`."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    losses = smoothed(beta * minus(a.sort().values, b.sort().values), _scalar(label_smoothing))
    return LossResult(losses, *scaled(beta, a, b))


def _scalar(label_smoothing: float | Tensor) -> float:
    if isinstance(label_smoothing, Tensor):
        raise CodealignError("sorted margins belong to no pair: give label_smoothing as one number")
    return label_smoothing
