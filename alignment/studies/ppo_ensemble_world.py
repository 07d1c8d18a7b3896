"""The overoptimisation world (overopt_world.py) with a policy that can be trained: its chain, as logits.

The world draws answers by hidden variables (in the degenerate mode or not; which token loops). Both can be
read off: the mode is whether the last token was an unusual one, the loop token is given with the prompt. So
the chance of every next token is known exactly, and a trainable policy is those chances with a table of
logits added, by context: at zero it is the world's policy itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from alignment.rewards.aggregation import Calibration, calibrate
from alignment.studies.overopt_world import FloatArray, Gold, Members, World, draw, sample

_LEAST = 1e-30  # a chance that underflowed has a logarithm, too


@dataclass(frozen=True, slots=True)
class Game:
    """One seed's world.

    Attributes:
        world: Its sizes.
        log_common: Log-chances of common tokens, by context (common,), and a last row for leaving the
            degenerate mode; (common + 1, common).
        gold: The gold reward.
        members: Reward models, one ensemble.
        scales: Of each member, on the validation answers.
    """

    world: World
    log_common: Tensor
    gold: Gold
    members: Members
    scales: tuple[Calibration, ...]


def game(world: World, seed: int) -> Game:
    """The world that `overopt_world.draw` has for this seed, its reward models trained on the same pairs."""
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.full(world.common, 0.3), size=world.common)
    chain = np.cumsum(chances, axis=1)
    gold = Gold(world, rng)
    # `draw` standardises gold on the pairs' answers; the same draws give the same scale.
    total = world.pairs + world.validation
    prompts = rng.integers(world.common, size=total)
    gold.standardise(sample(world, chain, np.tile(prompts, 2), rng).reshape(2, total, -1))
    data = draw(world, seed)
    members = Members(world, [seed])
    members.train(torch.from_numpy(data.chosen[None]), torch.from_numpy(data.rejected[None]))
    validation = data.validation.reshape(1, -1, data.validation.shape[-1])
    scores = members.score(torch.from_numpy(validation))[0].double().numpy()
    scales = tuple(calibrate(scores[:, j]) for j in range(world.members))
    rows = np.concatenate([chances, chances.mean(axis=0, keepdims=True)])
    return Game(world, torch.from_numpy(np.log(np.maximum(rows, _LEAST))).float(), gold, members, scales)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A batch of answers.

    Attributes:
        tokens: (batch, length).
        contexts: Row of the policy's table at each token, (batch, length).
        loops: Loop token of each answer, (batch,).
        counts: Of each token so far, before each token, (batch, length, tokens).
        answers: Counts of all tokens, (batch, tokens).
    """

    tokens: Tensor
    contexts: Tensor
    loops: Tensor
    counts: Tensor
    answers: Tensor


def reference_logits(game: Game, contexts: Tensor, loops: Tensor) -> Tensor:
    """Log-chances of every token under the world's policy, (..., tokens).

    Args:
        game: The world.
        contexts: Rows: the last common token, or `common` in the degenerate mode, (...).
        loops: Loop tokens, from 0, of the same shape.
    """
    world = game.world
    degenerate = contexts == world.common
    inside = torch.where(degenerate, world.stay, world.enter)[..., None]
    common = game.log_common[contexts] + torch.log1p(-inside)
    spread = torch.full((*contexts.shape, world.tail), (1 - world.loop) / world.tail)
    spread.scatter_add_(-1, loops[..., None], torch.full((*contexts.shape, 1), world.loop))
    return torch.cat([common, inside.log() + spread.log()], dim=-1)


class Policy(nn.Module):  # type: ignore[misc]
    """The world's policy with a table of logits added, (common + 1, tokens), zero at first."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(game.world.common + 1, game.world.common + game.world.tail))

    def forward(self, contexts: Tensor, reference: Tensor) -> Tensor:
        """Log-probabilities of every token, (..., tokens), by rows (...) and `reference_logits` of them."""
        logps: Tensor = (reference + embedding(contexts, self.table)).log_softmax(-1)
        return logps


class Critic(nn.Module):  # type: ignore[misc]
    """The value of a prefix: a small network on its token counts, its place, and whether it degenerated."""

    def __init__(self, world: World, generator: torch.Generator) -> None:
        super().__init__()
        self._world = world
        inputs, width = world.common + world.tail + world.length + 1, 64
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, 1)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features), generator=generator)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.second.weight)

    def forward(self, rollout: Rollout) -> Tensor:
        """(batch, length)."""
        length = self._world.length
        places = torch.eye(length).expand(len(rollout.tokens), -1, -1)
        degenerate = (rollout.contexts == self._world.common)[..., None]
        inputs = torch.cat([rollout.counts / math.sqrt(length), places, degenerate.float()], dim=-1)
        values: Tensor = self.second(torch.tanh(self.first(inputs)))[..., 0]
        return values


def play(policy: Policy, game: Game, batch: int, generator: torch.Generator) -> Rollout:
    """Answers of random prompts, as `overopt_world.sample` draws them where the policy's table is zero."""
    world = game.world
    start = torch.randint(world.common, (batch,), generator=generator)
    loops = torch.randint(world.tail, (batch,), generator=generator)
    counts = torch.zeros(batch, world.common + world.tail)
    contexts, columns = start, []
    with torch.no_grad():
        for _ in range(world.length):
            chances = policy(contexts, reference_logits(game, contexts, loops)).exp()
            drawn = torch.rand(batch, 1, generator=generator)
            # Rounding may leave the last cumulative chance below the draw.
            token = (chances.cumsum(1) < drawn).sum(1).clamp(max=counts.shape[1] - 1)
            columns.append((token, contexts, counts))
            counts = counts.scatter_add(1, token[:, None], torch.ones(batch, 1))
            contexts = token.clamp(max=world.common)
    tokens, rows, before = (torch.stack(part, dim=1) for part in zip(*columns, strict=True))
    return Rollout(tokens, rows, loops, before, counts)


def member_scores(game: Game, answers: Tensor) -> FloatArray:
    """Calibrated scores of every member, (batch, tokens) to (batch, members)."""
    raw = game.members.score(answers[None] / math.sqrt(game.world.length))[0].double().numpy()
    found: FloatArray = np.stack([scale.apply(raw[:, j]) for j, scale in enumerate(game.scales)], axis=1)
    return found
