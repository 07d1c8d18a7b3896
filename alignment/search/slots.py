"""Keys and values of one layer for rows that are still drawn: room for tokens, and rows that leave cheaply.

transformers' own layer makes its tensors anew for every token, and for every row that leaves: with many rows
and a small model that was a third of the whole search. Here a token is written where room is kept for it,
and a leaving row's place is taken by the last row that stays, the only one that is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

# Slots that are made at once: a little memory against a copy of everything.
_AHEAD = 32


class SlotLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of transformers' `Cache` that writes into room of its own.

    Attributes:
        keys: (rows, heads, slots, size): a view of what is in use.
        values: Likewise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_initialized = False
        self.room: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *given: Any, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """Adds tokens to all rows, (rows, heads, tokens, size) each; gives all keys and values."""
        rows, _, new, _ = key_states.shape
        used = self.keys.shape[2] if self.is_initialized else 0
        if not self.is_initialized or used + new > self.room[0].shape[2]:
            self._make(key_states, value_states, used + new + _AHEAD)
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:rows, :, used : used + new] = states
        self._show(rows, used + new)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Takes these rows, in this order; one may come several times."""
        old = (self.keys, self.values)
        used = old[0].shape[2]
        self.room = [
            side.new_empty((len(indices), side.shape[1], used + _AHEAD, side.shape[3])) for side in old
        ]
        for room, side in zip(self.room, old, strict=True):
            room[:, :, :used] = side[indices]
        self._show(len(indices), used)

    def leave(self, sources: Sequence[int], holes: Sequence[int], rows: int) -> None:
        """Copies rows to the places of others, and keeps the first `rows`.

        Args:
            sources: Rows that stay and stand behind the first `rows`.
            holes: As many places of rows that leave.
            rows: How many stay.
        """
        used = self.keys.shape[2]
        for source, hole in zip(sources, holes, strict=True):
            for room in self.room:
                room[hole, :, :used] = room[source, :, :used]
        self._show(rows, used)

    def _make(self, keys: Tensor, values: Tensor, slots: int) -> None:
        """Room for so many slots, with what is there already."""
        old = (self.keys, self.values) if self.is_initialized else ()
        self.room = [
            side.new_empty((side.shape[0], side.shape[1], slots, side.shape[3])) for side in (keys, values)
        ]
        for room, side in zip(self.room, old, strict=False):
            room[:, :, : side.shape[2]] = side
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def _show(self, rows: int, slots: int) -> None:
        self.keys, self.values = (room[:rows, :, :slots] for room in self.room)


def departures(leaving: Sequence[int], rows: int) -> tuple[list[int], list[int]]:
    """Which rows are copied where, so that those that stay are the first ones: (sources, holes).

    Args:
        leaving: Places that become free.
        rows: All rows.
    """
    gone, left = set(leaving), rows - len(set(leaving))
    holes = [place for place in range(left) if place in gone]
    sources = [place for place in range(left, rows) if place not in gone]
    return sources, holes
