"""DPO and the losses that keep its logistic form.

Notation of the formulas: a = log pi(chosen) - log ref(chosen), b the same for the rejected side, h = a - b,
S = log sigmoid. arXiv numbers name the source; departures stand with the function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

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
from codegen_eval.errors import CodealignError


def smoothed(logits: Tensor, label_smoothing: float | Tensor, *, highest: float = 0.5) -> Tensor:
    """-(1-e) S(z) - e S(-z), one value a pair: cross-entropy with labels that are wrong with probability e.

    Args:
        logits: z, shape (batch,).
        label_smoothing: e, a number or one a pair, in [0, highest].
        highest: 0.5 is where a pair says nothing.
    """
    e = probability("label_smoothing", label_smoothing, logits, highest)
    return -(1 - e) * logsigmoid(logits) - e * logsigmoid(-logits)


def scaled(beta: float, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """The implicit rewards, beta times each side's score, detached."""
    return beta * chosen.detach(), beta * rejected.detach()


@LOSSES.register("dpo")
def dpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """-S(beta h): direct preference optimisation (2305.18290, eq. 7)."""
    return cdpo(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta, label_smoothing=0.0
    )


@LOSSES.register("cdpo")
def cdpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | Tensor = 0.1,
) -> LossResult:
    """-(1-e) S(beta h) - e S(-beta h): conservative DPO (Mitchell 2023; per pair: 2405.00451)."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return LossResult(smoothed(beta * minus(a, b), label_smoothing), *scaled(beta, a, b))


@LOSSES.register("robust")
def robust(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | Tensor = 0.1,
) -> LossResult:
    """[-(1-e) S(beta h) + e S(-beta h)] / (1-2e): unbiased under flipped labels (2403.00409)."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    z = beta * minus(a, b)
    e = probability("label_smoothing", label_smoothing, z, 0.5, excluded=True)
    losses = (-(1 - e) * logsigmoid(z) + e * logsigmoid(-z)) / (1 - 2 * e)
    return LossResult(losses, *scaled(beta, a, b))


@LOSSES.register("dpo_norm")
def dpo_norm(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    *,
    beta: float = 2.0,
) -> LossResult:
    """-S(beta (a/|chosen| - b/|rejected|)): DPO on log ratios per token (as in Tulu 3, 2411.15124)."""
    positive(beta=beta)
    a = mean_logps(log_ratio(chosen_logps, ref_chosen_logps), chosen_lengths)
    b = mean_logps(log_ratio(rejected_logps, ref_rejected_logps), rejected_lengths)
    return LossResult(-logsigmoid(beta * minus(a, b)), *scaled(beta, a, b))


@LOSSES.register("rpo")
def rpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_lengths: Tensor,
    *,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> LossResult:
    """-S(beta h) - w log pi(chosen)/|chosen|: DPO + NLL (iterative RPO, 2404.19733)."""
    not_negative(nll_weight=nll_weight)
    base = dpo(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps, beta=beta)
    nll = -mean_logps(chosen_logps, chosen_lengths)
    return LossResult(
        base.losses + nll_weight * nll,
        base.chosen_rewards,
        base.rejected_rewards,
        extras={"nll": nll.detach()},
    )


@LOSSES.register("dpop")
def dpop(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.3,
    lambda_: float = 50.0,
) -> LossResult:
    """-S(beta (h - lambda max(0, -a))): DPO-positive holds up the chosen side (2402.13228)."""
    positive(beta=beta)
    not_negative(lambda_=lambda_)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return LossResult(-logsigmoid(beta * (minus(a, b) - lambda_ * torch.relu(-a))), *scaled(beta, a, b))


@LOSSES.register("simpo")
def simpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
) -> LossResult:
    """-S(beta (log pi(chosen)/|chosen| - log pi(rejected)/|rejected|) - gamma) (2405.14734).

    `gamma` is the margin itself, as TRL's `simpo_gamma`, not a multiple of beta.
    """
    positive(beta=beta)
    not_negative(gamma=gamma)
    x, y = mean_logps(chosen_logps, chosen_lengths), mean_logps(rejected_logps, rejected_lengths)
    return LossResult(-logsigmoid(beta * minus(x, y) - gamma), *scaled(beta, x, y))


@LOSSES.register("cpo")
def cpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_lengths: Tensor,
    *,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> LossResult:
    """-S(beta (log pi(chosen) - log pi(rejected))) - w log pi(chosen)/|chosen| (2401.08417)."""
    positive(beta=beta)
    not_negative(nll_weight=nll_weight)
    nll = -mean_logps(chosen_logps, chosen_lengths)
    losses = -logsigmoid(beta * minus(chosen_logps, rejected_logps)) + nll_weight * nll
    return LossResult(losses, *scaled(beta, chosen_logps, rejected_logps), extras={"nll": nll.detach()})


@LOSSES.register("orpo")
def orpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    *,
    lambda_: float = 0.1,
) -> LossResult:
    """-x - lambda S(log odds(x) - log odds(y)) on log-probabilities per token (2403.07691).

    odds = p / (1 - p). A side that the model is certain of (x = 0) would have infinite odds; it counts as the
    largest probability below 1.
    """
    positive(lambda_=lambda_)
    x, y = mean_logps(chosen_logps, chosen_lengths), mean_logps(rejected_logps, rejected_lengths)
    odds = minus(x, y) - (_log1mexp(x) - _log1mexp(y))
    return LossResult(
        -x - lambda_ * logsigmoid(odds),
        *scaled(lambda_, x, y),
        extras={"log_odds_ratio": odds.detach()},
    )


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, without cancellation (Maechler 2012)."""
    x = x.clamp(max=-torch.finfo(x.dtype).eps)
    near = x > -0.6931471805599453
    # Each branch gets a harmless argument where the other one counts: 0 times an infinite gradient is NaN.
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, x, -0.5))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, x))),
    )


@LOSSES.register("tdpo1")
def tdpo1(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_seq_kl: Tensor,
    rejected_seq_kl: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """-S(beta h - beta (K(rejected) - K(chosen))): token-level DPO, first form (2404.11999).

    K is `tokens.sequence_kl`: the sum over the completion's positions of KL(ref || policy).
    """
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    drift = minus(rejected_seq_kl, chosen_seq_kl)
    return LossResult(-logsigmoid(beta * minus(minus(a, b), drift)), *scaled(beta, a, b))


@LOSSES.register("tdpo2")
def tdpo2(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_seq_kl: Tensor,
    rejected_seq_kl: Tensor,
    *,
    beta: float = 0.1,
    alpha: float = 0.5,
) -> LossResult:
    """-S(beta h - alpha beta (K(rejected) - K(chosen))), no gradient through K(chosen) (2404.11999)."""
    positive(beta=beta)
    not_negative(alpha=alpha)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    drift = minus(rejected_seq_kl, chosen_seq_kl.detach())
    return LossResult(-logsigmoid(beta * minus(minus(a, b), alpha * drift)), *scaled(beta, a, b))


@LOSSES.register("beta_dpo")
def beta_dpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    alpha: float = 0.6,
    reference_margin: float = 0.0,
    momentum: float = 0.9,
    lowest_beta: float = 1e-3,
) -> LossResult:
    """DPO with beta (1 + alpha (mean M - M0)), M = beta h, M0 = `reference_margin` (2407.08639).

    M0 is a moving average over batches: `carry` holds its next value. Two departures: the paper's filtering
    of pairs by their margin is not here (per-pair weights do it), and `lowest_beta` keeps the sign where the
    batch's mean margin lies far below M0.
    """
    positive(beta=beta, lowest_beta=lowest_beta)
    not_negative(alpha=alpha)
    if not 0 <= momentum <= 1:
        raise CodealignError(f"momentum must lie in [0, 1] (given: {momentum})")
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    h = minus(a, b)
    mean = float(beta * h.detach().mean())
    used = max(lowest_beta, beta * (1 + alpha * (mean - reference_margin)))
    return LossResult(
        -logsigmoid(used * h),
        *scaled(used, a, b),
        extras={"beta_used": h.new_tensor(used)},
        carry={"reference_margin": momentum * reference_margin + (1 - momentum) * mean},
    )
