"""Where tokens lie and who sees whom, by enumeration."""

from __future__ import annotations

import random

import torch

from alignment.preference.layout import attention_mask, lay_out

PAIR = ([1, 2, 3], ([10, 11], [20]))


def test_separate_rows_leave_out_the_token_at_which_nothing_is_predicted() -> None:
    layout = lay_out([PAIR], pad_id=9)
    assert layout.input_ids.tolist() == [[1, 2, 3, 10], [1, 2, 3, 9]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert layout.units.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert layout.sources[0].tolist() == [2, 3] and layout.sources[1, 0] == 6
    assert layout.targets.tolist() == [[10, 11], [20, 0]]
    assert layout.mask.tolist() == [[True, True], [True, False]]


def test_a_shared_prompt_lies_there_once_and_each_branch_has_its_own_last_token() -> None:
    layout = lay_out([PAIR], share=True)
    assert layout.input_ids.tolist() == [[1, 2, 3, 10, 3]]
    assert layout.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert layout.branches.tolist() == [[0, 0, 1, 1, 2]]
    assert layout.sources[0].tolist() == [2, 3] and layout.sources[1, 0] == 4
    seen = attention_mask(layout.units, layout.branches)[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]


def test_packed_rows_hold_several_units_that_do_not_see_each_other() -> None:
    groups = [([1, 2], ([3, 4, 5], [6])), ([7], ([8], [9, 10]))]
    layout = lay_out(groups, pack=True)
    # Units in order of their length: 1 2 3 4 | 1 2 | 7 9 | 7, in rows of 4.
    assert layout.input_ids.tolist() == [[1, 2, 3, 4], [1, 2, 7, 9], [7, 0, 0, 0]]
    assert layout.units.tolist() == [[1, 1, 1, 1], [1, 1, 2, 2], [1, 0, 0, 0]]
    seen = attention_mask(layout.units, layout.branches)[1, 0].int().tolist()
    assert seen == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert layout.targets.tolist() == [[3, 4, 5], [8, 0, 0], [6, 0, 0], [9, 10, 0]]
    assert layout.sources[1, 0] == 8 and layout.sources[3, :2].tolist() == [6, 7]


def test_padding_sees_padding_so_that_no_row_of_the_attention_is_empty() -> None:
    layout = lay_out([PAIR, ([1], ([2], [3]))], share=True, multiple=8)
    assert layout.input_ids.shape == (2, 8)
    assert attention_mask(layout.units, layout.branches).any(-1).all()


def test_every_token_sees_exactly_its_own_past_whatever_the_layout() -> None:
    draw = random.Random(0)
    groups = []
    fresh = iter(range(1, 10_000))  # all ids differ, so that an id tells which token was seen
    for _ in range(12):
        prompt = [next(fresh) for _ in range(draw.randint(1, 9))]
        sides = tuple([next(fresh) for _ in range(draw.randint(1, 9))] for _ in range(2))
        groups.append((prompt, sides))
    for share in (False, True):
        for pack in (False, True):
            layout = lay_out(groups, share=share, pack=pack)
            seen = attention_mask(layout.units, layout.branches)
            width = layout.input_ids.shape[1]
            for i, (prompt, sides) in enumerate(groups):
                for side, completion in enumerate(sides):
                    number = side * len(groups) + i
                    for t, token in enumerate(completion):
                        row, column = divmod(int(layout.sources[number, t]), width)
                        past = layout.input_ids[row][seen[row, 0, column]].tolist()
                        assert sorted(past) == sorted([*prompt, *completion[:t]])
                        positions = layout.position_ids[row][seen[row, 0, column]].tolist()
                        assert sorted(positions) == list(range(len(prompt) + t))
                        assert layout.targets[number, t] == token
            assert torch.equal(layout.mask.sum(1)[:12], torch.tensor([len(s[0]) for _, s in groups]))
