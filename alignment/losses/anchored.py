"""Losses that say for each side alone whether it should gain or lose. Notation as in logistic.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
    same_shape,
)
from alignment.losses.logistic import dpo, scaled
from codegen_eval.errors import CodealignError


@LOSSES.register("kto")
def kto(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    kl_logps: Tensor,
    ref_kl_logps: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossResult:
    """l_D (1 - sigmoid(beta (a - z0))) and l_U (1 - sigmoid(beta (z0 - b))) (KTO, 2402.01306, eq. 7).

    The two sides need no pairing and may differ in number; the losses are those of the chosen side, then the
    rejected one's. z0 = max(0, mean of kl_logps - ref_kl_logps), no gradient; with several processes give the
    `kl` tensors of all of them.
    """
    same_shape(kl_logps, ref_kl_logps)
    if not kl_logps.numel():
        raise CodealignError("KTO needs mismatched completions for its KL baseline: kl_logps is empty")
    z0 = (kl_logps - ref_kl_logps).mean().clamp(min=0).detach()
    return _unpaired(
        log_ratio(chosen_logps, ref_chosen_logps),
        log_ratio(rejected_logps, ref_rejected_logps),
        z0,
        beta,
        desirable_weight,
        undesirable_weight,
    )


@LOSSES.register("apo_zero_unpaired")
def apo_zero_unpaired(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossResult:
    """KTO with z0 = 0 (2408.06266): no mismatched completions needed."""
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return _unpaired(a, b, a.new_zeros(()), beta, desirable_weight, undesirable_weight)


def _unpaired(
    a: Tensor, b: Tensor, z0: Tensor, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossResult:
    positive(beta=beta)
    not_negative(desirable_weight=desirable_weight, undesirable_weight=undesirable_weight)
    # sigmoid(-x), not 1 - sigmoid(x): no cancellation, the same value.
    chosen = desirable_weight * torch.sigmoid(-beta * (a - z0))
    rejected = undesirable_weight * torch.sigmoid(-beta * (z0 - b))
    return LossResult(torch.cat([chosen, rejected]), *scaled(beta, a, b), extras={"kl": z0})


@LOSSES.register("apo_zero")
def apo_zero(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """1 - sigmoid(beta a) + sigmoid(beta b): chosen up, rejected down (2408.06266, eq. 7)."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    same_shape(a, b)
    return LossResult(torch.sigmoid(-beta * a) + torch.sigmoid(beta * b), *scaled(beta, a, b))


@LOSSES.register("apo_down")
def apo_down(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """sigmoid(beta a) + 1 - sigmoid(beta h): chosen down, rejected further down (2408.06266, eq. 8)."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    return LossResult(torch.sigmoid(beta * a) + torch.sigmoid(-beta * minus(a, b)), *scaled(beta, a, b))


@LOSSES.register("exo_pair")
def exo_pair(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    label_smoothing: float | Tensor = 1e-3,
) -> LossResult:
    """KL(q || p) with q = sigmoid(beta h) and p = 1 - e for the chosen side (EXO, 2402.00856, eq. 16).

    Raises:
        CodealignError: For e = 0, under which the divergence is infinite.
    """
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    z = beta * minus(a, b)
    e = probability("label_smoothing", label_smoothing, z, 0.5)
    if (e == 0).any():
        raise CodealignError("exo_pair needs label_smoothing above 0 (1e-3 is usual)")
    chosen = torch.sigmoid(z) * (logsigmoid(z) - torch.log1p(-e))
    rejected = torch.sigmoid(-z) * (logsigmoid(-z) - torch.log(e))
    return LossResult(chosen + rejected, *scaled(beta, a, b))


@LOSSES.register("nca_pair")
def nca_pair(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> LossResult:
    """-S(beta a) - S(-beta a)/2 - S(-beta b)/2: noise contrastive alignment (2402.05369)."""
    positive(beta=beta)
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    same_shape(a, b)
    losses = -logsigmoid(beta * a) - 0.5 * logsigmoid(-beta * a) - 0.5 * logsigmoid(-beta * b)
    return LossResult(losses, *scaled(beta, a, b))


@LOSSES.register("bco_pair")
def bco_pair(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    delta: float = 0.0,
    momentum: float | None = None,
) -> LossResult:
    """-S(beta a - d) - S(-(beta b - d)): binary classifier optimisation (2404.04656).

    `delta` is d, the reward shift; the paper takes the running mean of all rewards. `momentum` is that of
    this mean, whose next value `carry` then holds; None keeps d as it is (TRL: 0).
    """
    positive(beta=beta)
    if not math.isfinite(delta) or (momentum is not None and not 0 <= momentum <= 1):
        raise CodealignError(
            f"delta must be finite and momentum in [0, 1] (given: delta {delta}, momentum {momentum})"
        )
    a, b = log_ratio(chosen_logps, ref_chosen_logps), log_ratio(rejected_logps, ref_rejected_logps)
    same_shape(a, b)
    losses = -logsigmoid(beta * a - delta) - logsigmoid(-(beta * b - delta))
    carry = {}
    if momentum is not None:
        mean = float(beta * (a + b).detach().mean() / 2)
        carry["delta"] = momentum * delta + (1 - momentum) * mean
    return LossResult(losses, *scaled(beta, a, b), carry=carry)


@LOSSES.register("sft")
def sft(chosen_logps: Tensor, chosen_lengths: Tensor) -> LossResult:
    """Negative log-likelihood of the chosen side: per-token means, weighed to the batch's token mean."""
    nll = -mean_logps(chosen_logps, chosen_lengths)
    return LossResult(nll, shares=_token_shares(chosen_lengths, nll))


@LOSSES.register("mpo")
def mpo(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_lengths: Tensor,
    *,
    beta: float = 0.1,
    delta: float = 0.0,
    mix: Sequence[float] = (0.8, 0.2, 1.0),
) -> LossResult:
    """mix[0] DPO + mix[1] BCO + mix[2] SFT: mixed preference optimisation (2411.10442)."""
    if len(mix) != 3:
        raise CodealignError(f"mix holds the weights of dpo, bco_pair and sft (given: {list(mix)})")
    not_negative(**{f"mix[{i}]": part for i, part in enumerate(mix)})
    logps = (chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    first = dpo(*logps, beta=beta)
    second = bco_pair(*logps, beta=beta, delta=delta)
    nll = -mean_logps(chosen_logps, chosen_lengths)
    third = nll * _token_shares(chosen_lengths, nll)
    return LossResult(
        mix[0] * first.losses + mix[1] * second.losses + mix[2] * third,
        first.chosen_rewards,
        first.rejected_rewards,
        extras={"nll": nll.detach()},
    )


def _token_shares(lengths: Tensor, like: Tensor) -> Tensor:
    """Weights with mean 1 that make a mean over examples a mean over tokens."""
    lengths = lengths.to(like)
    return lengths * len(lengths) / lengths.sum()
