"""PPO against one reward model or a conservative ensemble, with and without a penalty on the KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from alignment.kl import exact_kl, kl_tokens
from alignment.onpolicy.gae import gae, token_rewards
from alignment.onpolicy.losses import aggregate, batch_size, ppo_losses, value_losses
from alignment.onpolicy.whitening import whiten
from alignment.rewards.aggregation import FloatArray, Objective
from alignment.rewards.aggregation import aggregate as combined
from alignment.studies.ppo_ensemble_world import (
    Critic,
    Game,
    Policy,
    Rollout,
    member_scores,
    play,
    reference_logits,
)

REWARDS: tuple[str, ...] = ("single", "mean", "wco", "uwo")


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one training; the same for all rewards.

    Attributes:
        steps: Batches of answers.
        batch: Answers a step.
        epochs: Passes over a batch.
        rate: Adam's, of the policy's table.
        critic_rate: Adam's, of the critic.
        every: Steps between evaluations.
        evaluation: Answers of one.
        lam: UWO's lambda; the paper's for PPO.
    """

    steps: int = 150
    batch: int = 64
    epochs: int = 4
    rate: float = 0.02
    critic_rate: float = 3e-3
    every: int = 10
    evaluation: int = 512
    lam: float = 0.1


def reward_of(name: str, scores: FloatArray, member: int, lam: float) -> FloatArray:
    """What is optimised, (batch,), of calibrated scores (batch, members).

    Args:
        name: One of `REWARDS`; `single` is one member alone.
        scores: By member.
        member: Which one, for `single`.
        lam: UWO's lambda.
    """
    if name == "single":
        return scores[:, member]
    objective: Objective = name  # type: ignore[assignment]
    return combined(scores, objective, lam=lam).rewards


def train(game: Game, name: str, member: int, beta: float, seed: int, settings: Settings) -> dict[str, Any]:
    """Trains the world's policy.

    Args:
        game: The world.
        name: Of the reward; see `reward_of`.
        member: For `single`.
        beta: Coefficient of the KL by token (k1) in the reward.
        seed: Of the samples.
        settings: See there.

    Returns:
        `steps`, and at each of them `kl` (exact, nats an answer), `gold`, `proxy` (what is optimised),
        `mean` (of all members), `spread` (standard deviation of the members, mean over answers), `tail`
        (unusual tokens an answer).
    """
    generator = torch.Generator().manual_seed(1000 * seed + 7)
    policy, critic = Policy(game), Critic(game.world, generator)
    optimizers = [
        torch.optim.Adam(policy.parameters(), lr=settings.rate),
        torch.optim.Adam(critic.parameters(), lr=settings.critic_rate),
    ]
    rows: dict[str, list[float]] = {}
    for step in range(settings.steps + 1):
        if step % settings.every == 0 or step == settings.steps:
            for key, value in {
                "steps": step,
                **_evaluated(policy, game, name, member, seed, settings),
            }.items():
                rows.setdefault(key, []).append(value)
        if step < settings.steps:
            rollout = play(policy, game, settings.batch, generator)
            scores = member_scores(game, rollout.answers)
            rewards = torch.from_numpy(reward_of(name, scores, member, settings.lam)).float()
            _ppo(policy, critic, game, rollout, rewards, beta, settings, optimizers)
    return rows


def _logps(policy: Policy, rollout: Rollout, reference: Tensor) -> Tensor:
    return policy(rollout.contexts, reference).gather(2, rollout.tokens[..., None])[..., 0]


def _reference(game: Game, rollout: Rollout) -> Tensor:
    """Log-probabilities of the start, (batch, length, tokens)."""
    loops = rollout.loops[:, None].expand_as(rollout.contexts)
    return reference_logits(game, rollout.contexts, loops)


def _ppo(
    policy: Policy,
    critic: Critic,
    game: Game,
    rollout: Rollout,
    rewards: Tensor,
    beta: float,
    settings: Settings,
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """The steps on one batch."""
    mask = torch.ones_like(rollout.tokens, dtype=torch.bool)
    reference = _reference(game, rollout)
    with torch.no_grad():
        old_logps, old_values = _logps(policy, rollout, reference), critic(rollout)
        kl = kl_tokens(old_logps, reference.gather(2, rollout.tokens[..., None])[..., 0], "k1")
        advantages, returns = gae(token_rewards(rewards, mask, kl, beta=beta), old_values, mask)
        advantages = whiten(advantages, mask)
    total = batch_size(mask, "token_mean")
    for _ in range(settings.epochs):
        found = ppo_losses(_logps(policy, rollout, reference), old_logps, advantages, mask)
        policy.zero_grad()
        aggregate(found.losses, mask, "token_mean", total).backward()
        clip_grad_norm_(policy.parameters(), 1.0)
        optimizers[0].step()
        errors = value_losses(critic(rollout), old_values, returns, mask, clip=None)
        critic.zero_grad()
        aggregate(errors.losses, mask, "token_mean", total).backward()
        clip_grad_norm_(critic.parameters(), 1.0)
        optimizers[1].step()


def _evaluated(
    policy: Policy, game: Game, name: str, member: int, seed: int, settings: Settings
) -> dict[str, float]:
    """Fresh answers, gold never seen by training; equal policies give equal figures."""
    held_out = torch.Generator().manual_seed(999_000 + seed)
    rollout = play(policy, game, settings.evaluation, held_out)
    scores = member_scores(game, rollout.answers)
    reference = _reference(game, rollout)
    with torch.no_grad():
        kl = exact_kl(policy(rollout.contexts, reference), reference).sum(1)
    counts = rollout.answers.numpy()
    return {
        "kl": float(kl.mean()),
        "gold": float(game.gold(counts.astype("int64")).mean()),
        "proxy": float(reward_of(name, scores, member, settings.lam).mean()),
        "mean": float(scores.mean()),
        "spread": float(scores.std(axis=1).mean()),
        "tail": float(counts[:, game.world.common :].sum(axis=1).mean()),
    }
