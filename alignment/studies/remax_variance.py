"""Gradient variance of the estimators in the ReMax study, on frozen policies.

The variance of a batch's gradient is the trace of the sample covariance over batches. All estimators see the
same samples, but RLOO, which needs two of each prompt: half the prompts, as many samples. Where two rewards
differ by an offset, their samples are the same as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from alignment.onpolicy.advantages import reinforce_advantages, remax_advantages, rloo_advantages
from alignment.onpolicy.losses import aggregate, reinforce_losses
from alignment.studies.remax_world import (
    Answers,
    Sorter,
    accuracy,
    answer,
    draw_prompts,
    log_probabilities,
    offset,
)

ESTIMATORS = ("reinforce", "remax", "batch_mean", "rloo")
REWARDS: dict[str, Callable[[Tensor], Tensor]] = {
    "acc + c(x)": offset,
    "acc + 1": lambda prompts: torch.ones(len(prompts)),
    "bare acc": lambda prompts: torch.zeros(len(prompts)),
}
"""What each reward adds to the accuracy, by prompt."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What is known of the estimators' gradients under one reward.

    Attributes:
        variance: Trace of the covariance of a batch's gradient, by estimator.
        signal: Squared norm of the mean gradient over the variance (biased up by 1 / batches), by estimator.
        sampled: Mean reward of the samples.
        greedy: Mean reward of the greedy answers.
    """

    variance: dict[str, float]
    signal: dict[str, float]
    sampled: float
    greedy: float


def measure(policy: Sorter, rewards: list[str], seed: int, batches: int, size: int = 64) -> dict[str, Spread]:
    """Gradients of every estimator under every reward.

    Args:
        policy: Stays as it is.
        rewards: Keys of `REWARDS`.
        seed: Of prompts and samples.
        batches: Two or more.
        size: Samples a batch, an even number.
    """
    generator = torch.Generator().manual_seed(50_000 + seed)
    found: dict[tuple[str, str], list[Tensor]] = {(r, e): [] for r in rewards for e in ESTIMATORS}
    means: dict[str, list[tuple[float, float]]] = {name: [] for name in rewards}
    for _ in range(batches):
        prompts = draw_prompts(size, generator)
        sampled, greedy = answer(policy, prompts, generator), answer(policy, prompts, None)
        twice = answer(policy, prompts[: size // 2].repeat_interleave(2, dim=0), generator)
        reached, best, paired = accuracy(sampled), accuracy(greedy), accuracy(twice)
        for name in rewards:
            c, c2 = REWARDS[name](prompts), REWARDS[name](twice.prompts)
            means[name].append((float((reached + c).mean()), float((best + c).mean())))
            advantages: Mapping[str, Tensor] = {
                "reinforce": reached + c,
                "remax": remax_advantages(reached + c, best + c),
                "batch_mean": reinforce_advantages(reached + c),
            }
            for estimator, gradient in _gradients(policy, sampled, advantages).items():
                found[name, estimator].append(gradient)
            group = {"rloo": rloo_advantages(paired + c2, 2)}
            found[name, "rloo"].append(_gradients(policy, twice, group)["rloo"])
    return {name: _spread(name, found, means[name]) for name in rewards}


def _gradients(policy: Sorter, answers: Answers, advantages: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The flat gradient of the batch's loss for each set of advantages, (parameters,)."""
    logps = log_probabilities(policy, answers)
    parameters = [p for p in policy.parameters() if p.requires_grad]
    found = {}
    for name, values in advantages.items():
        by_token = torch.where(answers.mask, values[:, None], 0.0)
        losses = reinforce_losses(logps, by_token, answers.mask)
        loss = aggregate(losses, answers.mask, "sequence_sum", len(values))
        parts = torch.autograd.grad(loss, parameters, retain_graph=True)
        found[name] = torch.cat([part.flatten() for part in parts]).double()
    return found


def _spread(
    name: str, found: Mapping[tuple[str, str], list[Tensor]], means: list[tuple[float, float]]
) -> Spread:
    variance, signal = {}, {}
    for estimator in ESTIMATORS:
        gradients = torch.stack(found[name, estimator])
        variance[estimator] = float(gradients.var(dim=0).sum())
        signal[estimator] = float((gradients.mean(dim=0) ** 2).sum()) / variance[estimator]
    count = len(means)
    return Spread(variance, signal, sum(s for s, _ in means) / count, sum(g for _, g in means) / count)
