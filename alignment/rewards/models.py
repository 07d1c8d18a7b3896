"""Trained reward models as rewards of a recipe: one (`model`), or several combined (`ensemble`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.rewards.ensemble import EnsembleReward
from alignment.rewards.protocol import Reward, Rewards
from alignment.rewards.registry import REWARDS


@REWARDS.register("model")
def model(*, path: str | Path, batch_size: int = 16, device: str | None = None, raw: bool = False) -> Reward:
    """One reward model from disk; None for a text longer than those that it was trained on.

    Args:
        path: A folder with a model or an adapter, as `codealign train reward` leaves it in `members/0`.
        batch_size: Rows a forward pass.
        device: torch device; a GPU if there is one, else the CPU.
        raw: Its own scores, where it has a scale: else they count in standard deviations from the mean of its
            validation answers.

    Raises:
        CodealignError: If the folder holds no reward model.
    """
    from alignment.reward_modeling.scoring import RewardModel

    member = RewardModel(path, batch_size=batch_size, device=device)
    scale = None if raw else member.calibration

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> Rewards:
        scores = member.score(prompts, completions)
        if scale is None:
            return scores
        return [None if score is None else float(scale.apply(score)) for score in scores]

    reward.__name__ = "model"
    return reward


@REWARDS.register("ensemble")
def ensemble(
    *,
    path: str | Path,
    objective: str = "uwo",
    lam: float = 0.1,
    ddof: int = 0,
    missing: str = "none",
) -> Reward:
    """All members of a folder that `codealign train reward` made, as one reward (ensemble.py).

    Args:
        path: The folder.
        objective: `mean`, `wco` or `uwo`.
        lam: UWO's lambda; 0.1 is the paper's for PPO.
        ddof: See aggregation.py.
        missing: What a text too long for a member means: `none`, no reward; or `error`.

    Raises:
        CodealignError: For no members, members without scales, or an unknown objective.
    """
    return EnsembleReward(path, objective, lam=lam, ddof=ddof, missing=missing)  # type: ignore[arg-type]
