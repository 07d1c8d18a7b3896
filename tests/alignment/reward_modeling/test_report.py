"""The report on an ensemble's members: by hand and by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from alignment.reward_modeling.report import (
    agreement,
    correct_shares,
    correlations,
    markdown,
    split_votes,
    spread,
)
from codegen_eval.errors import CodealignError

CHOSEN = np.array([[1.0, 0.0], [2.0, 3.0], [0.0, 0.0], [1.0, -1.0]])
REJECTED = np.array([[0.0, 0.0], [3.0, 1.0], [1.0, 2.0], [0.0, 1.0]])


def test_a_tie_is_half_right() -> None:
    assert correct_shares([1e-9, 0.0, -1.0]).tolist() == [1.0, 0.5, 0.0]


def test_correlations_are_pearsons() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 3))
    found = correlations(scores)
    for a, b in itertools.product(range(3), repeat=2):
        x, y = scores[:, a] - scores[:, a].mean(), scores[:, b] - scores[:, b].mean()
        assert found[a, b] == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))
    assert correlations(scores[:, :1]).tolist() == [[pytest.approx(1.0)]]
    with pytest.raises(CodealignError, match="member 1 gives every sample one score"):
        correlations([[1.0, 2.0], [2.0, 2.0]])
    with pytest.raises(CodealignError, match="two or more samples"):
        correlations([[1.0, 2.0]])


def test_split_votes_and_spread_by_hand() -> None:
    # Margins: (1, 0), (-1, 2), (-1, -2), (1, -2): all but the third are votes for different sides.
    assert split_votes(CHOSEN - REJECTED) == 0.75
    assert spread([[0.0, 2.0], [1.0, 1.0]]) == 0.5  # deviations 1 and 0


def test_the_report_of_four_pairs_by_hand() -> None:
    found = agreement(CHOSEN, REJECTED, None, ["p", "p", "q", "q"], lam=0.5)
    values = {name: entry["value"] for name, entry in found["accuracy"].items()}
    # mean: 0.5 > 0, 2.5 > 2, 0 < 1.5, 0 < 0.5; wco: 0 = 0, 2 > 1, 0 < 1, -1 < 0;
    # uwo: 0.5 - 0.125 > 0, 2.5 - 0.125 > 2 - 0.5, 0 < 1.5 - 0.125, 0 - 0.5 < 0.5 - 0.125.
    assert values == {"member0": 0.5, "member1": 0.375, "mean": 0.5, "wco": 0.375, "uwo": 0.5}
    assert found["all_wrong"] == 0.25 and found["split_votes"] == 0.75
    assert found["pairs"] == 4 and found["prompts"] == 2
    assert found["spread_strange"] is None
    assert found["accuracy"]["mean"]["low"] == 0.0 and found["accuracy"]["mean"]["high"] == 1.0


def test_one_prompt_has_no_interval() -> None:
    found = agreement(CHOSEN, REJECTED, None, ["p"] * 4)
    assert found["accuracy"]["mean"] == {"value": 0.5}
    assert "| mean | 0.500 | - |" in markdown(found)


def test_members_that_do_not_disagree_on_strange_text_are_called_so() -> None:
    alike = markdown(agreement(CHOSEN, REJECTED, np.zeros((3, 2)), ["p", "p", "q", "q"]))
    assert "do not disagree more on strange text" in alike and "--vary_head" in alike
    apart = markdown(agreement(CHOSEN, REJECTED, np.array([[-9.0, 9.0]]), ["p", "p", "q", "q"]))
    assert "under other prompts: 9.000" in apart and "do not disagree" not in apart
    assert "Correlation between members' scores: " in apart
