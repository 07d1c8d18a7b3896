"""The world of the overoptimisation study: a policy, a gold reward, pairs, and reward models trained on them.

A miniature of Coste et al. 2023 (arXiv 2310.02743). Gold falls under best-of-n only where selection reaches
samples on which proxies err with a heavier tail than the signal has. So the policy has a rare degenerate mode
(falling into repetition of an unusual token), and members, drawn from different initialisations, disagree
about it. Both facts are built into this world; neither is built into the reward models or the aggregation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class World:
    """Sizes and chances; the defaults are setting A of the specification.

    Attributes:
        common: Tokens of the policy's Markov chain.
        tail: Unusual tokens, reached in the degenerate mode only.
        length: Tokens an answer.
        enter: Chance a step to fall into the degenerate mode.
        stay: Chance a step to stay in it.
        loop: In it, chance to emit the answer's own loop token instead of any tail token.
        tail_penalty: What a tail token costs in gold, in standard deviations.
        fold: Whether gold above 1 is folded down (y becomes 2 - y): an error that all members share.
        noise: Chance that a training pair's label is flipped.
        pairs: Training pairs.
        validation: Pairs for calibration and accuracy, labels clean.
        members: Reward models an ensemble.
        shared_trunk: Whether members start from one trunk and differ in head and order only.
        prompts: Prompts of the pool.
        pool: Samples a prompt.
    """

    common: int = 64
    tail: int = 64
    length: int = 16
    enter: float = 0.003
    stay: float = 0.9
    loop: float = 0.8
    tail_penalty: float = 0.2
    fold: bool = False
    noise: float = 0.25
    pairs: int = 2000
    validation: int = 1000
    members: int = 5
    shared_trunk: bool = False
    prompts: int = 16
    pool: int = 2048


@dataclass(frozen=True, slots=True)
class Data:
    """What one seed draws: answers as token counts / sqrt(length), float32, and their gold.

    Attributes:
        chosen: Answers that the (noisy) label prefers, shape (pairs, tokens).
        rejected: The others.
        validation: Shape (2, validation pairs, tokens), the better answer first.
        pool: Shape (prompts, samples, tokens).
        pool_gold: Shape (prompts, samples).
        flipped: Share of flipped training labels.
    """

    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]
    validation: NDArray[np.float32]
    pool: NDArray[np.float32]
    pool_gold: FloatArray
    flipped: float


def draw(world: World, seed: int) -> Data:
    """Everything that one seed draws, from one generator."""
    rng = np.random.default_rng(seed)
    chain = np.cumsum(rng.dirichlet(np.full(world.common, 0.3), size=world.common), axis=1)
    gold = Gold(world, rng)
    total = world.pairs + world.validation
    prompts = rng.integers(world.common, size=total)
    answers = sample(world, chain, np.tile(prompts, 2), rng).reshape(2, total, -1)
    gold.standardise(answers)
    scores = gold(answers)
    better = scores.argmax(axis=0)
    flips = rng.random(world.pairs) < world.noise
    labels = better.copy()
    labels[: world.pairs] ^= flips
    rows = np.arange(total)
    features = (answers / math.sqrt(world.length)).astype(np.float32)
    first, second = features[labels, rows], features[1 - labels, rows]
    starts = np.repeat(rng.integers(world.common, size=world.prompts), world.pool)
    pool = sample(world, chain, starts, rng)
    return Data(
        chosen=first[: world.pairs],
        rejected=second[: world.pairs],
        validation=np.stack([first[world.pairs :], second[world.pairs :]]),
        pool=(pool / math.sqrt(world.length)).astype(np.float32).reshape(world.prompts, world.pool, -1),
        pool_gold=gold(pool).reshape(world.prompts, world.pool),
        flipped=float(flips.mean()),
    )


def sample(world: World, chain: FloatArray, prompts: IntArray, rng: np.random.Generator) -> IntArray:
    """Token counts of one answer a prompt, shape (answers, common + tail); see `sequences`."""
    return counts_of(world, sequences(world, chain, prompts, rng))


def counts_of(world: World, tokens: IntArray) -> IntArray:
    """Token counts of answers given as tokens, shape (answers, length)."""
    counts = np.zeros((len(tokens), world.common + world.tail), dtype=np.int64)
    np.add.at(counts, (np.arange(len(tokens))[:, None], tokens), 1)
    return counts


def sequences(world: World, chain: FloatArray, prompts: IntArray, rng: np.random.Generator) -> IntArray:
    """One answer a prompt as tokens, shape (answers, length); tail tokens are numbered behind common ones.

    Args:
        world: See there.
        chain: Cumulative transition probabilities between common tokens, shape (common, common).
        prompts: The first context token of each answer.
        rng: Source of everything random.
    """
    answers = len(prompts)
    context, degenerate = prompts.copy(), np.zeros(answers, dtype=bool)
    loop_token = rng.integers(world.tail, size=answers)
    found = np.empty((answers, world.length), dtype=np.int64)
    for step in range(world.length):
        chance, before = rng.random(answers), degenerate
        degenerate = np.where(before, chance < world.stay, chance < world.enter)
        context = np.where(before & ~degenerate, rng.integers(world.common, size=answers), context)
        draws = rng.random(answers)
        # Rounding may leave a row's last cumulative probability below the draw.
        common = np.minimum((chain[context] < draws[:, None]).sum(axis=1), world.common - 1)
        looping = rng.random(answers) < world.loop
        unusual = np.where(looping, loop_token, rng.integers(world.tail, size=answers))
        context = np.where(degenerate, context, common)
        found[:, step] = np.where(degenerate, world.common + unusual, common)
    return found


class Gold:
    """The gold reward: a random ReLU network on counts of common tokens, minus a price a tail token."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        width = 256
        self._world = world
        self._layers = (
            rng.normal(size=(world.common, width)),
            rng.normal(size=(width, width)) * math.sqrt(2 / width),
            rng.normal(size=width) / math.sqrt(width),
        )
        self._mean, self._std = 0.0, 1.0

    def standardise(self, answers: IntArray) -> None:
        """Takes mean and standard deviation of the network on these answers as its scale."""
        raw = self._network(answers)
        self._mean, self._std = float(raw.mean()), float(raw.std())

    def __call__(self, answers: IntArray) -> FloatArray:
        """Gold of token counts (..., tokens), in standard deviations over the policy's answers."""
        value = (self._network(answers) - self._mean) / self._std
        if self._world.fold:
            value = np.where(value > 1, 2 - value, value)
        price: FloatArray = self._world.tail_penalty * answers[..., self._world.common :].sum(axis=-1)
        return value - price

    def _network(self, answers: IntArray) -> FloatArray:
        first, second, head = self._layers
        hidden = np.maximum(answers[..., : self._world.common] / math.sqrt(self._world.length) @ first, 0)
        value: FloatArray = np.maximum(hidden @ second, 0) @ head
        return value


class Members:
    """Reward models of several ensembles, trained at once by batched matrix products.

    Each is a ReLU network with two hidden layers of `WIDTH` on the counts of all tokens. Members of one
    ensemble see the same pairs with the same labels, in an order of their own.
    """

    WIDTH, BATCH, EPOCHS, WARMUP = 32, 32, 5, 10
    RATE, CENTRING = 3e-3, 0.001

    def __init__(self, world: World, seeds: list[int]) -> None:
        self._world = world
        tokens, width, k = world.common + world.tail, self.WIDTH, world.members
        generators = [torch.Generator().manual_seed(1_000_003 * seed + 17) for seed in seeds]

        def normal(generator: torch.Generator, rows: int, columns: int, scale: float, shared: bool) -> Tensor:
            drawn = torch.randn(1 if shared else k, rows, columns, generator=generator) * scale
            return drawn.expand(k, -1, -1)

        shared = world.shared_trunk
        shapes = (
            (tokens, width, 1.0, shared),
            (width, width, math.sqrt(2 / width), shared),
            (width, 1, math.sqrt(1 / width), False),
        )
        self._weights = [torch.cat([normal(g, *shape) for g in generators]).clone() for shape in shapes]
        self._biases = [torch.zeros(len(seeds) * k, 1, w.shape[2]) for w in self._weights]
        self._order = generators
        self._ensembles = len(seeds)

    def train(self, chosen: Tensor, rejected: Tensor) -> None:
        """Trains all members: Bradley-Terry loss + a pull of the rewards to 0 (Open-Assistant's, 0.001).

        Args:
            chosen: Preferred answers, shape (ensembles, pairs, tokens).
            rejected: The others.
        """
        parameters = [*self._weights, *self._biases]
        for parameter in parameters:
            parameter.requires_grad_(True)
        k, pairs = self._world.members, chosen.shape[1]
        steps = self.EPOCHS * (pairs // self.BATCH)
        optimizer = torch.optim.AdamW(parameters, lr=self.RATE, betas=(0.9, 0.95), weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda t: min((t + 1) / self.WARMUP, (steps - t) / max(1, steps - self.WARMUP))
        )
        sides = torch.stack([chosen, rejected], dim=2)
        ensemble = torch.arange(self._ensembles).repeat_interleave(k)[:, None]
        for _ in range(self.EPOCHS):
            order = torch.stack([torch.randperm(pairs, generator=g) for g in self._order for _ in range(k)])
            for start in range(0, pairs - self.BATCH + 1, self.BATCH):
                batch = sides[ensemble, order[:, start : start + self.BATCH]]
                rewards = self._forward(batch.flatten(1, 2)).view(-1, self.BATCH, 2)
                margin = rewards[..., 0] - rewards[..., 1]
                losses = -logsigmoid(margin).mean(1) + self.CENTRING * (rewards**2).mean((1, 2))
                optimizer.zero_grad()
                losses.sum().backward()  # members share no weight: each gets its own gradient
                optimizer.step()
                schedule.step()

    def score(self, answers: Tensor) -> Tensor:
        """Scores by every member, (ensembles, answers, tokens) to (ensembles, answers, members)."""
        spread = answers.repeat_interleave(self._world.members, dim=0)
        with torch.no_grad():
            rewards = self._forward(spread).view(self._ensembles, self._world.members, -1)
        return rewards.transpose(1, 2)

    def _forward(self, x: Tensor) -> Tensor:
        """Rewards of every member for its own answers, (members, answers, tokens) to (members, answers)."""
        for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
            x = torch.relu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self._biases[-1], x, self._weights[-1]).squeeze(-1)
