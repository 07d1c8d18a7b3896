"""From answers and rewards to advantages: what is known of a rollout before the first update on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from alignment.engines import Engine
from alignment.health.monitor import phase
from alignment.onpolicy.algorithms.base import Algorithm
from alignment.onpolicy.batch import Experience, answers_tokens
from alignment.onpolicy.collect import Rollout
from alignment.onpolicy.health import Tally
from alignment.onpolicy.importance import importance_weights
from alignment.onpolicy.policy import ActorCritic, Reference
from alignment.onpolicy.rows import blank_rows, reward_tensor
from alignment.onpolicy.whitening import Moments, masked_moments


class Preparer:
    """Makes experiences; keeps the moments of all rewards so far.

    Args:
        module: Policy and critic.
        reference: Of the KL; None for none.
        algorithm: Its options decide what is computed.
        engine: Of the module.
        rows_at_once: Answers in a pass, as in the update: so its first pass repeats the numbers bit by bit.
        pad_id: A token for padding.
    """

    def __init__(
        self,
        module: ActorCritic,
        reference: Reference | None,
        algorithm: Algorithm,
        engine: Engine,
        rows_at_once: int,
        pad_id: int,
    ) -> None:
        self.module, self.reference, self.algorithm = module, reference, algorithm
        self.accelerator, self.autocast = engine.accelerator, engine.autocast
        self.rows_at_once, self.pad_id = rows_at_once, pad_id
        self.rewards = masked_moments(torch.zeros(0), torch.zeros(0))

    def experience(self, rollout: Rollout, beta: float, tally: Tally) -> Experience:
        """Tensors of a rollout with the algorithm's advantages.

        Args:
            rollout: This process's share.
            beta: The KL coefficient now.
            tally: Gets the figures of the importance weights.
        """
        o, device = self.algorithm.options, self.accelerator.device
        n = o.num_generations or 1
        prompt_ids = [row.ids for row in rollout.prompts for _ in range(n)]
        tokens, sampler_logps = answers_tokens(prompt_ids, rollout.samples, device, self.pad_id)
        rewards, valid = self._scores(rollout.rewards, [answer.ended for answer in rollout.samples])
        e = Experience(
            tokens,
            tokens.mask,
            rewards,
            valid,
            n,
            beta=beta if self.reference is not None else 0.0,
            # Of earlier steps alone: a statistic that holds these rewards would bias their gradient.
            running=self._running(),
            gather=self.accelerator.gather,
            process=self.accelerator.process_index,
        )
        if rollout.greedy:
            e.greedy_rewards, e.greedy_valid = self._scores(
                rollout.greedy_rewards, [answer.ended for answer in rollout.greedy]
            )
        e.mask = blank_rows(tokens.mask, self.algorithm.keep(e))
        with phase("forward"):
            self._score(e)
        if o.importance_correction and e.logps is not None:
            correction = importance_weights(
                e.logps, sampler_logps.to(e.logps), e.mask, cap=o.importance_cap, excess=o.importance_excess
            )
            e.weights = correction.weights
            for name, value in correction.figures.items():
                tally.add(f"importance/{name}", value, int(e.mask.sum()))
        gathered = masked_moments(self.accelerator.gather(e.rewards), self.accelerator.gather(e.valid))
        self.rewards = self.rewards + Moments(
            gathered.count.cpu(), gathered.mean.cpu(), gathered.squares.cpu()
        )
        if o.normalize_rewards:
            _normalize(e)
        e.advantages = self.algorithm.advantages(e)
        return e

    def _score(self, e: Experience) -> None:
        """Log-probabilities and values under the weights that sampled."""
        wanted = {"logps": self.algorithm.needs_logps, "values": self.algorithm.needs_value}
        with torch.no_grad(), self.autocast():
            if any(wanted.values()):
                found = self._passes(self.module, e, **wanted)
                e.logps, e.values = found.get("logps"), found.get("values")
            if self.reference is not None:
                with self.reference.of(self.module) as reference:
                    e.ref_logps = self._passes(reference, e, logps=True)["logps"]

    def _passes(self, module: Any, e: Experience, **wanted: bool) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(e.rewards), self.rows_at_once):
            rows = list(range(start, min(start + self.rows_at_once, len(e.rewards))))
            for name, values in module(**e.tokens.inputs(rows), **wanted).items():
                parts.setdefault(name, []).append(e.tokens.spread(values, rows))
        return {name: torch.cat(values) for name, values in parts.items()}

    def _scores(self, rewards: Sequence[float | None], ended: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """Rewards, less the penalty of answers that were cut, and which are known."""
        values, valid = reward_tensor(rewards, dtype=torch.float64)
        penalty = self.algorithm.options.missing_eos_penalty
        values = torch.where(valid & ~torch.tensor(ended), values - penalty, values)
        device = self.accelerator.device
        return values.to(device, torch.float32), valid.to(device)

    def _running(self) -> tuple[float, float]:
        known = int(self.rewards.count)
        mean = float(self.rewards.mean) if known else math.nan
        return mean, float(self.rewards.variance().sqrt()) if known > 1 else math.nan

    def state_dict(self) -> list[float]:
        """Moments of all rewards, for a checkpoint."""
        return [float(x) for x in (self.rewards.count, self.rewards.mean, self.rewards.squares)]

    def load_state_dict(self, state: Sequence[float]) -> None:
        """Takes them back."""
        self.rewards = Moments(*(torch.tensor(x, dtype=torch.float64) for x in state))


def _normalize(e: Experience) -> None:
    """Rewards in deviations of earlier steps' rewards; as they are until there are two."""
    mean, deviation = e.running
    if not deviation > 0:
        return
    e.rewards = torch.where(e.valid, (e.rewards - mean) / deviation, 0.0)
    if e.greedy_rewards is not None and e.greedy_valid is not None:
        e.greedy_rewards = torch.where(e.greedy_valid, (e.greedy_rewards - mean) / deviation, 0.0)
    e.running = (0.0, 1.0)
