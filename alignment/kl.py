"""Estimators of KL(policy || reference) from samples of the policy (Schulman 2020).

v = log policy - log reference of a sampled token: k1 = v is unbiased and noisy, k2 = v^2/2 biased and never
negative, k3 = e^-v - 1 + v unbiased and never negative.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from codegen_eval.errors import CodealignError

Estimator = Literal["k1", "k2", "k3"]


def kl_tokens(logps: Tensor, ref_logps: Tensor, estimator: Estimator) -> Tensor:
    """The estimate at every token, in nats, of the inputs' shape.

    Raises:
        CodealignError: For unequal shapes or an unknown estimator.
    """
    if logps.shape != ref_logps.shape:
        raise CodealignError(
            f"log-probabilities of policy and reference differ in shape: {list(logps.shape)} and "
            f"{list(ref_logps.shape)}"
        )
    v = logps - ref_logps
    if estimator == "k1":
        return v
    if estimator == "k2":
        return v**2 / 2
    if estimator == "k3":
        return torch.expm1(-v) + v
    raise CodealignError(f"unknown KL estimator {estimator!r}; there are k1, k2, k3")


def kl_sequences(logps: Tensor, ref_logps: Tensor, mask: Tensor, estimator: Estimator) -> Tensor:
    """The token estimates summed over each completion, (batch, tokens) to (batch,).

    `mask` is true on completion tokens: the prompt never counts. k2 of a sequence is the sum over tokens of
    v^2/2, not half the square of the summed v, which is another and larger number.
    """
    values = kl_tokens(logps, ref_logps, estimator)
    if mask.shape != values.shape:
        raise CodealignError(
            f"the mask must have the shape {list(values.shape)} of the tokens, got {list(mask.shape)}"
        )
    return torch.where(mask.bool(), values, 0.0).sum(-1)
