"""What a training step reports, under TRL's keys: sums and counts, so that processes can be added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from alignment.losses.base import LossResult

Sums = dict[str, tuple[Tensor, Tensor]]
"""Numerator and denominator of each mean."""


def mean_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of values and their number."""
    return values.detach().double().sum(), torch.tensor(float(values.numel()), device=values.device).double()


def over(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over what the mask marks, and how much that is."""
    return torch.where(mask, values.detach().double(), 0.0).sum(), mask.double().sum()


def pair_sums(
    scores: Mapping[str, Tensor], mask: Tensor, tensors: Mapping[str, Tensor], result: LossResult
) -> Sums:
    """Metrics of a batch of pairs.

    Args:
        scores: As `scoring.score` gives them with statistics; chosen sides first.
        mask: Completion tokens, shape (completions, tokens).
        tensors: What the loss was given: `chosen_logps`, `ref_chosen_logps`, ...
        result: What it gave.
    """
    half = len(mask) // 2
    chosen, rejected = slice(None, half), slice(half, None)
    found = {
        "entropy": over(scores["entropy"], mask),
        "logits/chosen": over(scores["mean_logits"][chosen], mask[chosen]),
        "logits/rejected": over(scores["mean_logits"][rejected], mask[rejected]),
        "mean_token_accuracy": over(scores["top1"][chosen].double(), mask[chosen]),
        "logps/chosen": mean_of(tensors["chosen_logps"]),
        "logps/rejected": mean_of(tensors["rejected_logps"]),
    }
    if "ref_chosen_logps" in tensors:
        for side in ("chosen", "rejected"):
            found[f"log_ratios/{side}"] = mean_of(tensors[f"{side}_logps"] - tensors[f"ref_{side}_logps"])
    if result.chosen_rewards is not None and result.rejected_rewards is not None:
        found |= reward_sums(result.chosen_rewards, result.rejected_rewards)
        found["rewards/accuracies"] = mean_of((result.chosen_rewards > result.rejected_rewards).double())
    return found | {name: mean_of(value.double()) for name, value in result.extras.items()}


def reward_sums(chosen: Tensor, rejected: Tensor) -> Sums:
    """Implicit rewards of both sides."""
    return {"rewards/chosen": mean_of(chosen), "rewards/rejected": mean_of(rejected)}


def means(sums: Sums, add_up: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """The means over all processes; what no process has an example of is left out.

    Args:
        sums: This process's sums; the names are the same in all of them.
        add_up: Sums a tensor over processes.
    """
    total = add_up(torch.stack([torch.stack(pair) for pair in sums.values()])).tolist()
    return {name: top / count for name, (top, count) in zip(sums, total, strict=True) if count}
