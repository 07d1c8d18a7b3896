"""Training in the ReMax study: four algorithms on one task, by the pure functions of alignment/onpolicy."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from alignment.kl import kl_tokens
from alignment.onpolicy.advantages import remax_advantages, token_advantages
from alignment.onpolicy.gae import gae, token_rewards
from alignment.onpolicy.losses import aggregate, batch_size, ppo_losses, reinforce_losses, value_losses
from alignment.onpolicy.whitening import whiten
from alignment.studies.remax_world import (
    Answers,
    Sorter,
    accuracy,
    answer,
    copy_of,
    critic_of,
    draw_prompts,
    fine_tuned,
    log_probabilities,
    offset,
    values,
)

METHODS = ("reinforce", "remax", "ppo1", "ppo4")
EPOCHS = {"ppo1": 1, "ppo4": 4}


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one training; not tuned per method.

    Attributes:
        steps: Optimiser steps; PPO makes `EPOCHS` times as many.
        prompts: A step, one sample each.
        rate: Adam's, of the policy.
        critic_rate: Adam's, of the critic.
        beta: Of the KL to the start, k1, return to go.
        final: Prompts of the final evaluation.
    """

    steps: int = 80
    prompts: int = 64
    rate: float = 5e-4
    critic_rate: float = 1e-3
    beta: float = 0.02
    final: int = 512


def train(method: str, seed: int, settings: Settings) -> tuple[Sorter, dict[str, Any]]:
    """Trains a fine-tuned policy.

    Args:
        method: One of `METHODS`.
        seed: Of the start, the prompts and the samples; equal for all methods.
        settings: See there.

    Returns:
        The policy, and what is kept of the run: `accuracy` of the samples of each step (without the prompt's
        offset), `final_sampled` and `final_greedy`, `cpu_seconds` a step, `state_mb` (weights, gradients and
        Adam's moments in float32, counted).
    """
    policy = fine_tuned(seed)
    reference = copy_of(policy).requires_grad_(False)
    critic = critic_of(policy) if method in EPOCHS else None
    trained = [policy] if critic is None else [policy, critic]
    optimizers = [
        torch.optim.Adam(model.parameters(), lr=rate)
        for model, rate in zip(trained, (settings.rate, settings.critic_rate), strict=False)
    ]
    generator = torch.Generator().manual_seed(10_000 + seed)
    curve: list[float] = []
    started = time.process_time()
    for _ in range(settings.steps):
        answers = answer(policy, draw_prompts(settings.prompts, generator), generator)
        reached = accuracy(answers)
        curve.append(float(reached.mean()))
        rewards = reached + offset(answers.prompts)
        if critic is None:
            _gradient_step(policy, reference, answers, rewards, settings, greedy=method == "remax")
            _step(policy, optimizers[0])
        else:
            _ppo(policy, critic, reference, answers, rewards, settings, EPOCHS[method], optimizers)
    seconds = (time.process_time() - started) / settings.steps
    held_out = torch.Generator().manual_seed(77)
    prompts = draw_prompts(settings.final, held_out)
    parameters = sum(p.numel() for model in trained for p in model.parameters())
    return policy, {
        "accuracy": curve,
        "final_sampled": float(accuracy(answer(policy, prompts, held_out)).mean()),
        "final_greedy": float(accuracy(answer(policy, prompts, None)).mean()),
        "cpu_seconds": seconds,
        "state_mb": 16 * parameters / 1e6,
    }


def _gradient_step(
    policy: Sorter,
    reference: Sorter,
    answers: Answers,
    rewards: Tensor,
    settings: Settings,
    *,
    greedy: bool,
) -> None:
    """The gradient of REINFORCE without baseline, or of ReMax."""
    advantages = rewards
    if greedy:
        best = answer(policy, answers.prompts, None)
        advantages = remax_advantages(rewards, accuracy(best) + offset(answers.prompts))
    logps = log_probabilities(policy, answers)
    kl = kl_tokens(logps.detach(), log_probabilities(reference, answers), "k1")
    by_token = token_advantages(advantages, answers.mask, kl, beta=settings.beta)
    losses = reinforce_losses(logps, by_token, answers.mask)
    policy.zero_grad()
    aggregate(losses, answers.mask, "sequence_sum", len(rewards)).backward()


def _ppo(
    policy: Sorter,
    critic: Sorter,
    reference: Sorter,
    answers: Answers,
    rewards: Tensor,
    settings: Settings,
    epochs: int,
    optimizers: list[torch.optim.Optimizer],
) -> None:
    """The steps of PPO on one batch."""
    mask = answers.mask
    with torch.no_grad():
        old_logps, old_values = log_probabilities(policy, answers), values(critic, answers)
        kl = kl_tokens(old_logps, log_probabilities(reference, answers), "k1")
        advantages, returns = gae(token_rewards(rewards, mask, kl, beta=settings.beta), old_values, mask)
        advantages = whiten(advantages, mask)
    total = batch_size(mask, "token_mean")
    for _ in range(epochs):
        found = ppo_losses(log_probabilities(policy, answers), old_logps, advantages, mask)
        policy.zero_grad()
        aggregate(found.losses, mask, "token_mean", total).backward()
        _step(policy, optimizers[0])
        errors = value_losses(values(critic, answers), old_values, returns, mask)
        critic.zero_grad()
        aggregate(errors.losses, mask, "token_mean", total).backward()
        _step(critic, optimizers[1])


def _step(model: Sorter, optimizer: torch.optim.Optimizer) -> None:
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
