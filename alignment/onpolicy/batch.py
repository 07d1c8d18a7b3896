"""A rollout as tensors: rows of tokens for the model, and what is known of every answer and token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from alignment.onpolicy.rollout import Answer


def _itself(tensor: Tensor) -> Tensor:
    return tensor


@dataclass
class Tokens:
    """Answers behind their prompts, right-padded, for `ActorCritic`.

    Attributes:
        prompt_ids: One list a row.
        answer_ids: One list a row; may be empty.
        mask: (rows, tokens), true on an answer's tokens; tokens = the longest answer, at least 1.
        device: Where batches go.
        pad_id: Any token; padding is never looked at.
    """

    prompt_ids: list[Sequence[int]]
    answer_ids: list[Sequence[int]]
    mask: Tensor
    device: Any
    pad_id: int

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], device: Any, pad_id: int
    ) -> Tokens:
        """Lays out answers, one prompt each."""
        lengths = torch.tensor([len(ids) for ids in answers])
        width = max(1, int(lengths.max()))
        mask = (torch.arange(width)[None] < lengths[:, None]).to(device)
        return cls(list(prompts), list(answers), mask, device, pad_id)

    def inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """The model's inputs for some rows, as wide as the longest of them."""
        whole = [[*self.prompt_ids[row], *self.answer_ids[row]] for row in rows]
        width = max(map(len, whole))
        ids = torch.full((len(rows), width), self.pad_id)
        attention = torch.zeros((len(rows), width), dtype=torch.long)
        sources: list[int] = []
        targets: list[int] = []
        for i, (row, tokens) in enumerate(zip(rows, whole, strict=True)):
            ids[i, : len(tokens)] = torch.tensor(tokens)
            attention[i, : len(tokens)] = 1
            begin = i * width + len(self.prompt_ids[row]) - 1
            sources += range(begin, begin + len(self.answer_ids[row]))
            targets += self.answer_ids[row]
        tensors = {
            "input_ids": ids,
            "attention_mask": attention,
            "sources": torch.tensor(sources, dtype=torch.long),
            "targets": torch.tensor(targets, dtype=torch.long),
        }
        return {name: tensor.to(self.device) for name, tensor in tensors.items()}

    def spread(self, values: Tensor, rows: Sequence[int]) -> Tensor:
        """Flat values of some rows' tokens as (rows, tokens), 0 elsewhere; gradients pass."""
        mask = self.mask[list(rows)]
        return values.new_zeros(mask.shape).masked_scatter(mask, values)


@dataclass
class Experience:
    """What one process knows of a step's answers; samples of one prompt side by side.

    Attributes:
        tokens: The answers.
        mask: (rows, tokens): tokens to learn from; rows without a reward are blank.
        rewards: (rows,), as the algorithm gets them; 0 where unknown.
        valid: (rows,): which rewards are known.
        num_generations: Samples of a prompt.
        beta: The KL coefficient of this step.
        greedy_rewards: (prompts,), where the algorithm has a greedy answer.
        greedy_valid: (prompts,).
        logps: (rows, tokens), of the policy as it sampled; None where nothing needs it before the update.
        ref_logps: (rows, tokens), of the reference; None without one.
        values: (rows, tokens), of the critic as the policy sampled.
        weights: (rows, tokens), importance weights of token losses; None for none.
        advantages: (rows, tokens), what the algorithm made of it.
        returns: (rows, tokens), what the critic learns.
        running: Mean and deviation of the rewards of earlier steps; NaN before there are two.
        gather: Puts every process's tensor behind each other; equal shapes.
        process: Number of this process.
    """

    tokens: Tokens
    mask: Tensor
    rewards: Tensor
    valid: Tensor
    num_generations: int
    beta: float = 0.0
    greedy_rewards: Tensor | None = None
    greedy_valid: Tensor | None = None
    logps: Tensor | None = None
    ref_logps: Tensor | None = None
    values: Tensor | None = None
    weights: Tensor | None = None
    advantages: Tensor | None = None
    returns: Tensor | None = None
    running: tuple[float, float] = (float("nan"), float("nan"))
    gather: Callable[[Tensor], Tensor] = _itself
    process: int = 0

    def own(self, everywhere: Tensor) -> Tensor:
        """This process's rows of a tensor made from gathered ones."""
        rows = len(self.rewards)
        return everywhere[self.process * rows : (self.process + 1) * rows]


@dataclass(frozen=True, slots=True)
class Part:
    """One pass's share of an optimiser step.

    Attributes:
        rows: Which rows of the experience.
        experience: All of it.
    """

    rows: list[int]
    experience: Experience

    def of(self, tensor: Tensor | None) -> Tensor:
        """The part's rows of a tensor that the algorithm needs."""
        assert tensor is not None, "the trainer computes what the algorithm says that it needs"
        return tensor[self.rows]


def mini_batches(
    rows: int, size: int, number: int, order: Sequence[int] | None = None
) -> Iterator[list[list[int]]]:
    """Row numbers: for each of `number` optimiser steps its passes of `size` rows.

    `order` None is the rollout's own: the first epoch's, in which old log-probabilities were computed, too,
    so that the first pass repeats them bit by bit.
    """
    places = list(range(rows)) if order is None else list(order)
    passes = [places[i : i + size] for i in range(0, rows, size)]
    each = len(passes) // number
    for i in range(number):
        yield passes[i * each : (i + 1) * each]


def answers_tokens(
    prompts: Sequence[Sequence[int]], answers: Sequence[Answer], device: Any, pad_id: int
) -> tuple[Tokens, Tensor]:
    """Tokens of answers, and the sampler's log-probabilities as (rows, tokens)."""
    tokens = Tokens.of(prompts, [answer.ids for answer in answers], device, pad_id)
    logps = torch.zeros(tokens.mask.shape, dtype=torch.float64)
    for row, answer in enumerate(answers):
        if answer.logps:
            logps[row, : len(answer.logps)] = torch.tensor(answer.logps, dtype=torch.float64)
    return tokens, logps.to(device)
