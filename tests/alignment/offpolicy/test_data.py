"""Scored answers: reading, choosing, and rows that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.offpolicy.data import Candidates, best_of, load_candidates, ranked_groups
from codegen_eval.errors import CodealignError

ROWS = [
    {"prompt": "p", "completions": ["a", "b", "a", "c"], "rewards": [0.5, 1, 0.9, None]},
    {"prompt": "q", "completions": ["x"], "rewards": [None]},
    {"prompt": "r", "completions": ["y", "z"], "rewards": [-1.0, -1.0]},
]


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_answers_without_reward_are_left_out_and_repeated_ones_count_once(tmp_path: Path) -> None:
    found, counts = load_candidates(write(tmp_path, ROWS))
    assert found == [Candidates("p", ("a", "b"), (0.5, 1.0)), Candidates("r", ("y", "z"), (-1.0, -1.0))]
    assert counts == {"no_reward": 2, "repeated": 1, "prompts_without_reward": 1}


def test_rows_of_one_answer_are_put_together_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": prompt, "completion": text, "reward": reward, "logp": -2.0, "ref_logp": -3.0 + reward}
        for prompt, text, reward in [("p", "a", 1.0), ("q", "b", 0.0), ("p", "c", 0.5)]
    ]
    found, _ = load_candidates(write(tmp_path, rows))
    assert found == [Candidates("p", ("a", "c"), (1.0, 0.5)), Candidates("q", ("b",), (0.0,))]
    # log p - log p_ref is 1 - reward: by hand 1 - 0.5 * 0, 0.5 - 0.5 * 0.5, 0 - 0.5 * 1.
    shaped, _ = load_candidates(write(tmp_path, rows), kl_coef=0.5)
    assert [entry.rewards for entry in shaped] == [(1.0, 0.25), (-0.5,)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "completion": "a"}, "needs the columns prompt, completions, rewards"),
        ({"prompt": "p", "completions": ["a"], "rewards": [1.0, 2.0]}, "row 0: 1 completions have 2 rewards"),
        ({"prompt": "", "completions": ["a"], "rewards": [1.0]}, "an empty one"),
        ({"prompt": "p", "completions": [3], "rewards": [1.0]}, "completions must be texts"),
        ({"prompt": "p", "completions": ["a"], "rewards": [True]}, "reward 0 is True"),
        ({"prompt": "p", "completions": ["a"], "rewards": [None]}, "holds no answer with a reward"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        load_candidates(write(tmp_path, [row]))


def test_kl_needs_its_columns_and_numbers_in_them(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="needs the columns logps and ref_logps"):
        load_candidates(write(tmp_path, ROWS), kl_coef=0.1)
    rows = [{"prompt": "p", "completions": ["a"], "rewards": [1.0], "logps": [-1.0], "ref_logps": [None]}]
    with pytest.raises(CodealignError, match="row 0: sample 0 has log-probabilities"):
        load_candidates(write(tmp_path, rows), kl_coef=0.1)


GROUPS = [
    Candidates("p", ("a", "b", "c", "d"), (0.0, 1.0, 1.0, 0.5)),
    Candidates("q", ("x", "y"), (0.0, 0.0)),
]


def test_raft_keeps_the_first_of_the_best_and_nothing_below_the_bound() -> None:
    kept, counts = best_of(GROUPS, 1, None)
    assert [(entry.completions, entry.rewards) for entry in kept] == [(("b",), (1.0,)), (("x",), (0.0,))]
    kept, counts = best_of(GROUPS, 100, 1.0)
    assert [entry.completions for entry in kept] == [("b",), ("c",)]
    assert counts == {"kept": 2, "not_kept": 4, "prompts_without_kept": 1}
    with pytest.raises(CodealignError, match=r"min_reward=2.*highest: 1"):
        best_of(GROUPS, 1, 2)


def test_rrhf_thins_groups_from_best_to_worst_and_leaves_hopeless_prompts_out() -> None:
    whole, counts = ranked_groups(GROUPS, None, None)
    assert whole == GROUPS and counts["groups_without_order"] == 1
    thinned, counts = ranked_groups(GROUPS, 2, 0.5)
    assert thinned == [Candidates("p", ("a", "b"), (0.0, 1.0))]
    assert counts["prompts_below_min_reward"] == 1 and counts["not_kept"] == 2
    three, _ = ranked_groups(GROUPS[:1], 3, None)
    assert three[0].rewards == (0.0, 1.0, 0.5)
    with pytest.raises(CodealignError, match="no prompt has an answer"):
        ranked_groups(GROUPS, None, 3.0)
