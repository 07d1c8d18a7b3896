"""DPO under other divergences than the reverse KL (2309.16240), and DiscoPOP (2406.08414)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from alignment.losses.base import LOSSES, LossResult, log_ratio, minus, positive
from alignment.losses.logistic import scaled
from codegen_eval.errors import CodealignError, unknown

DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")


@LOSSES.register("f_dpo")
def f_dpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    divergence: str = "reverse_kl",
    alpha: float = 0.5,
) -> LossResult:
    """-S(beta (g(a) - g(b))) with g = f' of the divergence (2309.16240).

    `divergence` is one of `DIVERGENCES`, reverse_kl is plain DPO; `alpha` is that of alpha_divergence, where
    1 is the reverse KL.
    """
    positive(beta=beta)
    a = divergence_score(log_ratio(chosen_logps, ref_chosen_logps), divergence, alpha)
    b = divergence_score(log_ratio(rejected_logps, ref_rejected_logps), divergence, alpha)
    return LossResult(-logsigmoid(beta * minus(a, b)), *scaled(beta, a, b))


def divergence_score(log_ratios: Tensor, divergence: str, alpha: float = 0.5) -> Tensor:
    """g(u) = f'(e^u) up to a constant, elementwise.

    Raises:
        CodealignError: For an unknown divergence, or an alpha that is no number.
    """
    if divergence not in DIVERGENCES:
        raise unknown("divergence", divergence, DIVERGENCES)
    if not math.isfinite(alpha):
        raise CodealignError(f"alpha must be a finite number (given: {alpha})")
    if divergence == "forward_kl":
        return 1 - _bounded_exp(-log_ratios)
    if divergence == "js_divergence":
        return math.log(2) + logsigmoid(log_ratios)
    if divergence == "alpha_divergence" and abs(alpha - 1) >= 1e-6:
        return (_bounded_exp((alpha - 1) * log_ratios) - 1) / (alpha - 1)
    return log_ratios


def _bounded_exp(x: Tensor) -> Tensor:
    """e^x, its exponent cut where e^x times a little would leave the number format; no gradient beyond."""
    return torch.exp(x.clamp(max=0.9 * math.log(torch.finfo(x.dtype).max)))


@LOSSES.register("discopop")
def discopop(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    tau: float = 0.05,
) -> LossResult:
    """-S(z) (1-m) + e^-z m with z = beta h, m = sigmoid(z / tau): found by search (2406.08414, eq. 5)."""
    positive(beta=beta, tau=tau)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    z = beta * minus(a, b)
    # e^-z m in one exponent: apart, z far below 0 gives infinity times 0.
    exponential = _bounded_exp(logsigmoid(z / tau) - z)
    return LossResult(-logsigmoid(z) * torch.sigmoid(-z / tau) + exponential, *scaled(beta, a, b))
