"""Where the tokens of prompts and completions lie in a batch, and who sees whom.

Three layouts, all with the same log-probabilities: a row for each completion (prompt and completion, padded);
`share`, where the completions of one prompt lie behind one another after a single copy of it; `pack`
(padding-free), where several such units fill a row. The last two need a mask of their own, because a token
must not see another unit nor a sibling completion.

A completion's first token is predicted at the prompt's last one. With a shared prompt two first tokens would
hang on one position, so each branch begins with its own copy of that token: sharing costs one token a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Group = tuple[Sequence[int], Sequence[Sequence[int]]]
"""A prompt's token ids and those of its completions; no side is empty."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch of token ids.

    Attributes:
        input_ids: Shape (rows, width), padded on the right.
        position_ids: Position of each token in its own sequence.
        units: Number of the unit that a token belongs to, within its row, from 1; 0 for padding.
        branches: 0 for what all completions of a unit see, else the completion's number from 1.
        sources: Place in the flattened batch at which each completion token is predicted, shape
            (completions, longest completion); 0 where there is no token.
        targets: The completions' token ids; 0 where there is none.
        mask: True where there is one.
    """

    input_ids: Tensor
    position_ids: Tensor
    units: Tensor
    branches: Tensor
    sources: Tensor
    targets: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class _Unit:
    ids: list[int]
    positions: list[int]
    branches: list[int]
    starts: list[int]  # where within the unit each completion's first token is predicted
    numbers: list[int]  # the completions' numbers in the batch


def lay_out(
    groups: Sequence[Group], *, share: bool = False, pack: bool = False, pad_id: int = 0, multiple: int = 1
) -> Layout:
    """Arranges prompts and completions; completion `j` of group `i` is number `j * len(groups) + i`.

    So with pairs (chosen, rejected) the first half of the completions are the chosen ones.

    Args:
        groups: Prompts with their completions, the same number for each prompt.
        share: One copy of a prompt for all its completions.
        pack: Fill rows of the longest unit's width with several units.
        pad_id: Token id of the padding.
        multiple: The width is made a multiple of this.
    """
    units = [unit for i, group in enumerate(groups) for unit in _units(group, i, len(groups), share)]
    rows = _packed(units) if pack else [[unit] for unit in units]
    width = max(sum(len(unit.ids) for unit in row) for row in rows)
    width = -(-width // multiple) * multiple
    longest = max(len(completion) for _, completions in groups for completion in completions)
    count = sum(len(completions) for _, completions in groups)
    sources, targets = torch.zeros(2, count, longest, dtype=torch.long)
    mask = torch.zeros(count, longest, dtype=torch.bool)
    ids = torch.full((len(rows), width), pad_id)
    positions, numbers, branches = torch.zeros(3, len(rows), width, dtype=torch.long)
    for r, row in enumerate(rows):
        begin = 0
        for number, unit in enumerate(row, 1):
            place = slice(begin, begin + len(unit.ids))
            ids[r, place] = torch.tensor(unit.ids)
            positions[r, place] = torch.tensor(unit.positions)
            branches[r, place] = torch.tensor(unit.branches)
            numbers[r, place] = number
            for start, j in zip(unit.starts, unit.numbers, strict=True):
                completion = groups[j % len(groups)][1][j // len(groups)]
                n = len(completion)
                sources[j, :n] = torch.arange(n) + (r * width + begin + start)
                targets[j, :n] = torch.tensor(completion)
                mask[j, :n] = True
            begin += len(unit.ids)
    return Layout(ids, positions, numbers, branches, sources, targets, mask)


def _units(group: Group, i: int, groups: int, share: bool) -> list[_Unit]:
    prompt, completions = list(group[0]), group[1]
    numbers = [j * groups + i for j in range(len(completions))]
    # Nothing is predicted at a completion's last token, and nothing looks back at it: it can stay away.
    if not share:
        rows = [[*prompt, *completion[:-1]] for completion in completions]
        return [
            _Unit(row, list(range(len(row))), [0] * len(row), [len(prompt) - 1], [number])
            for row, number in zip(rows, numbers, strict=True)
        ]
    trunk = len(prompt) - 1
    ids, positions, branches, starts = prompt[:-1], list(range(trunk)), [0] * trunk, []
    for branch, completion in enumerate(completions, 1):
        starts.append(len(ids))
        ids += [prompt[-1], *completion[:-1]]
        positions += range(trunk, trunk + len(completion))
        branches += [branch] * len(completion)
    return [_Unit(ids, positions, branches, starts, numbers)]


def _packed(units: Sequence[_Unit]) -> list[list[_Unit]]:
    """First fit, longest first; ties in the order given."""
    width = max(len(unit.ids) for unit in units)
    rows: list[list[_Unit]] = []
    room: list[int] = []
    for unit in sorted(units, key=lambda unit: -len(unit.ids)):
        place = next((r for r, free in enumerate(room) if free >= len(unit.ids)), None)
        if place is None:
            rows.append([unit])
            room.append(width - len(unit.ids))
        else:
            rows[place].append(unit)
            room[place] -= len(unit.ids)
    return rows


def attention_mask(units: Tensor, branches: Tensor) -> Tensor:
    """Who sees whom: True where the token of the row may look at that of the column.

    A token sees what stands before it (and itself) in its own unit, as long as it is of the shared part or of
    its own branch. Padding sees padding, so that no row of the attention is empty.

    Args:
        units: As in `Layout`, shape (rows, width).
        branches: As in `Layout`.

    Returns:
        Booleans of shape (rows, 1, width, width).
    """
    width = units.shape[1]
    same_unit = units[:, :, None] == units[:, None, :]
    visible = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    earlier = torch.ones(width, width, dtype=torch.bool, device=units.device).tril()
    return (same_unit & visible & earlier)[:, None]
