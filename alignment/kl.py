"""KL(policy || reference): estimators from samples (Schulman 2020), the exact value, the penalty by token.

v = log policy - log reference of a sampled token: k1 = v is unbiased and noisy, k2 = v^2/2 biased and never
negative, k3 = e^-v - 1 + v unbiased and never negative.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from codegen_eval.errors import CodealignError, unknown

Estimator = Literal["k1", "k2", "k3"]
Penalty = Literal["return_to_go", "one_step", "none"]

LARGEST_EXPONENT, LARGEST_K3 = 20.0, 10.0


def kl_tokens(logps: Tensor, ref_logps: Tensor, estimator: Estimator, *, clamp: bool = False) -> Tensor:
    """The estimate at every token, in nats, of the inputs' shape.

    Args:
        logps: Log-probabilities of the sampled tokens under the policy.
        ref_logps: Under the reference.
        estimator: k1, k2 or k3.
        clamp: Bounds for k3, whose tail is heavy where the reference finds a token much likelier than the
            policy does: -v within +-20 before the exponential, the value at most 10, as verl has it. No
            longer unbiased then.

    Raises:
        CodealignError: For unequal shapes, an unknown estimator, or `clamp` with another one than k3.
    """
    if logps.shape != ref_logps.shape:
        raise CodealignError(
            f"log-probabilities of policy and reference differ in shape: {list(logps.shape)} and "
            f"{list(ref_logps.shape)}"
        )
    if clamp and estimator != "k3":
        raise CodealignError(f"clamp is for k3, the estimator with an exponential; got {estimator!r}")
    v = logps - ref_logps
    if estimator == "k1":
        return v
    if estimator == "k2":
        return v**2 / 2
    if estimator == "k3":
        if not clamp:
            return torch.expm1(-v) + v
        v = v.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)
        return (torch.expm1(-v) + v).clamp(max=LARGEST_K3)
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


def exact_kl(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """KL(policy || reference) of next-token distributions, (..., vocabulary) to (...), in nats.

    Raises:
        CodealignError: For unequal shapes, as of a reference with another vocabulary.
    """
    if logits.shape != ref_logits.shape:
        raise CodealignError(
            f"logits of policy and reference differ in shape: {list(logits.shape)} and "
            f"{list(ref_logits.shape)}"
        )
    logps = logits.log_softmax(-1)
    return (logps.exp() * (logps - ref_logits.log_softmax(-1))).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of next-token distributions, (..., vocabulary) to (...), in nats."""
    logps = logits.log_softmax(-1)
    return -(logps.exp() * logps).sum(-1)


def kl_penalty(kl: Tensor, mask: Tensor, form: Penalty = "return_to_go") -> Tensor:
    """What an advantage at token t pays for the KL, before the coefficient; (batch, tokens).

    `return_to_go` is the sum from t to the end: with k1 the gradient of E[reward] - beta KL(sequence) is then
    unbiased. `one_step` is the value at t alone, as in ReMax's repository: less noise, and the gradient of
    the KL with the visited states held fixed. `none` is 0.

    Args:
        kl: Estimates by token, detached, (batch, tokens).
        mask: True on the completion's tokens; other positions give 0, whatever they hold.
        form: See above.

    Raises:
        CodealignError: For unequal shapes or an unknown form.
    """
    if kl.shape != mask.shape:
        raise CodealignError(f"KL and mask differ in shape: {list(kl.shape)} and {list(mask.shape)}")
    if form not in get_args(Penalty):
        raise unknown("form of the KL penalty", form, get_args(Penalty))
    if form == "none":
        return torch.zeros_like(kl)
    kept = torch.where(mask.bool(), kl, 0.0)
    if form == "one_step":
        return kept
    return torch.where(mask.bool(), kept.flip(-1).cumsum(-1).flip(-1), 0.0)
