"""Room for keys and values: what is written is found again, whoever leaves and however far it grows."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from alignment.search.slots import SlotLayer, departures


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_it_holds_what_transformers_own_layer_holds_over_many_tokens_and_departures() -> None:
    ours, theirs = SlotLayer(), DynamicCache()
    chance = torch.Generator().manual_seed(0)

    def add(rows: int, new: int) -> None:
        keys, values = numbers(rows, 2, new, 3), numbers(rows, 2, new, 3) + 1
        found, expected = ours.update(keys, values), theirs.update(keys, values, 0)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()

    add(3, 40)  # more than is made ahead
    for cache in (ours, theirs):
        cache.batch_select_indices(torch.tensor([0, 0, 1, 1, 2, 2, 2]))
    rows = 7
    while rows:
        for _ in range(20):
            add(rows, 1)
        leaving = torch.randperm(rows, generator=chance)[: 1 + rows // 3].tolist()
        sources, holes = departures(leaving, rows)
        places = list(range(rows - len(leaving)))
        for source, hole in zip(sources, holes, strict=True):
            places[hole] = source
        assert sorted(places) == sorted(set(range(rows)) - set(leaving))
        rows = len(places)
        ours.leave(sources, holes, rows)
        theirs.batch_select_indices(torch.tensor(places, dtype=torch.long))
        assert torch.equal(ours.keys, theirs.layers[0].keys)
        assert torch.equal(ours.values, theirs.layers[0].values)


@pytest.mark.parametrize(
    ("leaving", "expected"),
    [([], ([], [])), ([4], ([], [])), ([0], ([4], [0])), ([1, 4], ([3], [1])), ([0, 1, 2, 3, 4], ([], []))],
)
def test_only_rows_behind_those_that_stay_are_copied(
    leaving: list[int], expected: tuple[list[int], list[int]]
) -> None:
    assert departures(leaving, 5) == expected


def test_a_token_is_written_in_place_while_there_is_room() -> None:
    layer = SlotLayer()
    layer.update(numbers(2, 1, 1, 4), numbers(2, 1, 1, 4))
    room = layer.room[0].data_ptr()
    for _ in range(20):
        layer.update(numbers(2, 1, 1, 4), numbers(2, 1, 1, 4))
    assert layer.keys.data_ptr() == room
