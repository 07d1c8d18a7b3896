"""What is logged of a step, and how it adds up over passes, steps and processes.

Names of TRL's last PPO trainer where it had them (docs/onpolicy.md lists all).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from alignment.kl import kl_sequences
from alignment.onpolicy.batch import Experience
from alignment.onpolicy.collect import Rollout
from alignment.onpolicy.gae import explained_variance

# One name in TRL's log for each figure of a pass.
_OF_PASS = {
    "ratio": "val/ratio",
    "clip_fraction": "policy/clipfrac_avg",
    "approxkl": "policy/approxkl_avg",
    "value_clip_fraction": "val/clipfrac_avg",
}


class Tally:
    """Weighted means and maxima under names, until they are read."""

    def __init__(self) -> None:
        self.means: dict[str, list[float]] = {}
        self.peaks: dict[str, float] = {}

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        """Adds a value to a mean; one that is not finite, or of no weight, says nothing."""
        if math.isfinite(value) and weight > 0:
            total = self.means.setdefault(name, [0.0, 0.0])
            total[0] += value * weight
            total[1] += weight

    def peak(self, name: str, value: float) -> None:
        """Keeps the largest."""
        if math.isfinite(value):
            self.peaks[name] = max(value, self.peaks.get(name, -math.inf))

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"means": self.means, "peaks": self.peaks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes them back."""
        self.means = {name: list(total) for name, total in state["means"].items()}
        self.peaks = dict(state["peaks"])

    def take(self, gather: Callable[[list[Any]], Iterable[Any]] = list) -> dict[str, float]:
        """The figures of all processes, and begins anew.

        Args:
            gather: Puts the lists of all processes behind each other.
        """
        whole = Tally()
        for state in gather([self.state_dict()]):
            for name, (total, weight) in state["means"].items():
                whole.add(name, total / weight, weight)
            for name, value in state["peaks"].items():
                whole.peak(name, value)
        self.means, self.peaks = {}, {}
        found = {name: total / weight for name, (total, weight) in whole.means.items()}
        return dict(sorted({**found, **whole.peaks}.items()))


def note_rollout(tally: Tally, rollout: Rollout) -> None:
    """Rewards, lengths, and what the reward itself logged."""
    for name, rewards in (("reward/sampled", rollout.rewards), ("reward/greedy", rollout.greedy_rewards)):
        for reward in rewards:
            if reward is not None:
                tally.add(name, reward)
                if name == "reward/sampled":
                    tally.add("reward/squared", reward**2)
    for answer in rollout.samples:
        tally.add("completions/mean_length", len(answer.ids))
        tally.peak("completions/max_length", len(answer.ids))
        tally.add("completions/clipped_ratio", float(not answer.ended))
    scored = [*rollout.scored, *rollout.greedy_scored]
    missing = [reward is None for call in scored for reward in call.rewards]
    tally.add("reward/missing_share", sum(missing) / len(missing), len(missing))
    tally.add("reward/raised_calls", sum(call.raised for call in scored))
    for call in rollout.scored:
        for name, values in call.metrics.items():
            for value in values:
                tally.add(name, value, len(call.rewards))
    tally.add("time/rollout", rollout.drawing)
    tally.add("time/reward_wait", rollout.waiting)
    drawn = sum(len(answer.ids) for answer in (*rollout.samples, *rollout.greedy))
    tally.add("time/tokens_per_second", drawn / max(rollout.drawing, 1e-9))


def note_experience(tally: Tally, e: Experience) -> None:
    """KL to the reference by three estimators, the objective's parts, the critic's worth, advantages."""
    rows = e.mask.any(1)
    number = int(rows.sum())
    if not number:
        return
    tally.add("objective/scores", float(e.rewards[rows].mean()), number)
    penalty = 0.0
    if e.logps is not None and e.ref_logps is not None:
        kl = {
            k: float(kl_sequences(e.logps, e.ref_logps, e.mask, k)[rows].mean()) for k in ("k1", "k2", "k3")
        }
        tally.add("objective/kl", kl["k1"], number)
        tally.add("objective/kl_k2", kl["k2"], number)
        tally.add("objective/kl_k3", kl["k3"], number)
        penalty = -e.beta * kl["k1"]
        tally.add("objective/non_score_reward", penalty, number)
    tally.add("objective/rlhf_reward", float(e.rewards[rows].mean()) + penalty, number)
    if e.advantages is not None:
        tokens = e.advantages[e.mask].double()
        tally.add("advantages/mean", float(tokens.mean()), len(tokens))
        tally.add("advantages/squared", float((tokens**2).mean()), len(tokens))
        tally.add("advantages/zero_share", float((tokens == 0).double().mean()), len(tokens))
    if e.values is not None and e.returns is not None:
        tally.add("val/explained_variance", float(explained_variance(e.values, e.returns, e.mask)))
        tally.add("val/mean", float(e.values[e.mask].double().mean()), int(e.mask.sum()))


def note_pass(
    tally: Tally,
    figures: Mapping[str, float],
    scores: Mapping[str, Tensor],
    mask: Tensor,
) -> None:
    """One pass of an update: figures of its tokens, entropy of policy and of the answers."""
    tokens = int(mask.sum())
    for name, value in figures.items():
        if name == "ratio_max":
            tally.peak("val/ratio_max", value)
        else:
            tally.add(_OF_PASS.get(name, f"policy/{name}"), value, tokens)
    if "entropy" in scores:
        tally.add("policy/entropy_avg", float(scores["entropy"][mask].mean()) if tokens else math.nan, tokens)
    rows = mask.any(1)
    surprise = -torch.where(mask, scores["logps"].detach(), 0.0).sum(1)[rows]
    if len(surprise):
        tally.add("objective/entropy", float(surprise.mean()), len(surprise))


def finished(figures: dict[str, float]) -> dict[str, float]:
    """Deviations from mean squares, which alone add up over processes; shares of time."""
    for name, mean in (("reward", "reward/sampled"), ("advantages", "advantages/mean")):
        square = figures.pop(f"{name}/squared", None)
        if square is not None:
            figures[f"{name}/std"] = math.sqrt(max(0.0, square - figures[mean] ** 2))
    whole = figures.get("time/step")
    if whole:
        figures["time/reward_wait_share"] = figures.get("time/reward_wait", 0.0) / whole
    return figures


def gradient_variance(squares: list[float], norm: float) -> tuple[float, float]:
    """Variance (trace) of a step's gradient, from the norms of its passes' shares, and it over norm^2.

    With g_m the share of pass m of M, each M g_m estimates the step's gradient G, and the variance of their
    mean is (M sum |g_m|^2 - |G|^2) / (M - 1). Passes of unequal size make it approximate.

    Args:
        squares: |g_m|^2 of each pass, two or more.
        norm: |G|.
    """
    number = len(squares)
    variance = max(0.0, (number * sum(squares) - norm**2) / (number - 1))
    return variance, variance / norm**2 if norm else math.nan
