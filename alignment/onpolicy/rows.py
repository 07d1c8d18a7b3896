"""Rows that have no reward, and shapes: what every function of this folder asks first.

A reward is None where nobody could say what the answer is worth (the sandbox broke, a scorer failed). Such a
row is blank: it takes no part in means, deviations and token counts, and its advantage is 0. It is never
reward 0, which would say "as bad as a failed program".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from codegen_eval.errors import CodealignError


def reward_tensor(
    rewards: Sequence[float | None], *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Rewards and which rows have one, both (batch,); a blank row holds 0 and False.

    Raises:
        CodealignError: For an empty list, or a reward that is no finite number; the row is named.
    """
    if not len(rewards):
        raise CodealignError("there are no rewards: the batch is empty")
    for row, reward in enumerate(rewards):
        if reward is None:
            continue
        if isinstance(reward, bool) or not isinstance(reward, Real):
            raise CodealignError(f"the reward of row {row} is {reward!r}: give a number, or None for unknown")
        if not math.isfinite(reward):
            raise CodealignError(
                f"the reward of row {row} is {reward}: give a finite number, or None where it is unknown"
            )
    valid = torch.tensor([reward is not None for reward in rewards])
    return torch.tensor([0.0 if r is None else float(r) for r in rewards], dtype=dtype), valid


def blank_rows(mask: Tensor, valid: Tensor) -> Tensor:
    """The token mask with the rows of no reward taken out whole: (batch, tokens) and (batch,) to bool.

    Raises:
        CodealignError: Where the batches differ.
    """
    if mask.dim() != 2 or valid.shape != mask.shape[:1]:
        raise CodealignError(
            f"blank rows need a mask (batch, tokens) and one mark a row, got {list(mask.shape)} and "
            f"{list(valid.shape)}"
        )
    return mask.bool() & valid.bool()[:, None]


def remax_valid(valid: Tensor, greedy_valid: Tensor, num_generations: int = 1) -> Tensor:
    """Which samples keep their row in ReMax: own reward known, and that of their prompt's greedy answer.

    `valid` (prompts x num_generations,), `greedy_valid` (prompts,): no greedy reward drops the whole prompt.
    """
    grouped(valid, num_generations)
    if greedy_valid.shape != (len(valid) // num_generations,):
        raise CodealignError(
            f"{len(valid)} samples at {num_generations} a prompt need {len(valid) // num_generations} greedy "
            f"rewards, got shape {list(greedy_valid.shape)}"
        )
    return valid.bool() & greedy_valid.bool().repeat_interleave(num_generations)


def group_valid(valid: Tensor, num_generations: int) -> Tensor:
    """Which samples keep their row where a group is its own baseline: known, and not alone."""
    groups = grouped(valid.bool(), num_generations)
    return (groups & (groups.sum(1, keepdim=True) > 1)).flatten()


def grouped(values: Tensor, num_generations: int) -> Tensor:
    """(prompts x num_generations,) as (prompts, num_generations): samples of one prompt lie side by side.

    Raises:
        CodealignError: Where the batch is not a whole number of groups.
    """
    if values.dim() != 1 or num_generations < 1 or len(values) == 0 or len(values) % num_generations:
        raise CodealignError(
            f"a batch of shape {list(values.shape)} is not made of groups of {num_generations}: give as many "
            "rows as prompts times num_generations"
        )
    return values.view(-1, num_generations)


def check_same(**tensors: Tensor) -> None:
    """Refuses tensors of unequal shapes, by their names."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise CodealignError(f"these must have one shape: {listed}")


def check_right_padded(mask: Tensor) -> None:
    """Refuses masks with a token after a gap: sums to the end of a row would cross it.

    Raises:
        CodealignError: For a row that is not ones and then zeros; it is named.
    """
    if mask.dim() != 2:
        raise CodealignError(f"the mask must be (batch, tokens), got {list(mask.shape)}")
    wrong = (mask.bool()[:, 1:] & ~mask.bool()[:, :-1]).any(1)
    if wrong.any():
        raise CodealignError(
            f"row {int(wrong.nonzero()[0])} has completion tokens after masked ones: completions are "
            "right-padded here, ones first, then zeros"
        )
