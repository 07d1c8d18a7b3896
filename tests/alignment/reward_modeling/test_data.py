"""Held-out pairs, flipped labels and tokens of reward training."""

from __future__ import annotations

import pytest

from alignment.reward_modeling.data import (
    Pair,
    answers,
    apart,
    fitting,
    flip_labels,
    share,
    split,
    token_rows,
)
from codegen_eval.errors import CodealignError
from tests.alignment.reward_modeling import small

PAIRS = [Pair(f"prompt {i % 100}", f"good {i}", f"bad {i}") for i in range(1000)]


def test_a_prompt_is_held_out_as_a_whole_whatever_the_order() -> None:
    train, held_out = split(PAIRS, 0.2, 0)
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert len(train) + len(held_out) == 1000 and 100 <= len(held_out) <= 300
    assert set(split(PAIRS[::-1], 0.2, 0)[1]) == set(held_out)
    assert set(split(PAIRS, 0.2, 1)[1]) != set(held_out)
    assert set(held_out) < set(split(PAIRS, 0.4, 0)[1]), "a larger share holds out the same and more"


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(holdout: float) -> None:
    with pytest.raises(CodealignError, match="--holdout must lie between 0 and 1"):
        split(PAIRS, holdout, 0)


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(CodealignError, match="of 1 prompts; give more prompts, another share"):
        split([Pair("p", "a", "b")] * 9, 0.5, 0)


def test_held_out_pairs_that_are_trained_on_are_refused_mirrored_too() -> None:
    apart(PAIRS[:5], PAIRS[5:9])
    with pytest.raises(CodealignError, match="2 of 3 held-out pairs are trained on"):
        apart(PAIRS[:5], [PAIRS[0], PAIRS[1].flipped(), PAIRS[7]])


def test_labels_flip_with_their_probability_the_same_in_any_order() -> None:
    noisy, marks = flip_labels(PAIRS, 0.25, 0)
    assert 200 < len(marks) < 300  # 250 expected, deviation 14
    assert all((noisy[i] == PAIRS[i].flipped()) == (i in set(marks)) for i in range(1000))
    other, _ = flip_labels(PAIRS[::-1], 0.25, 0)
    assert other[::-1] == noisy
    assert flip_labels(PAIRS, 0.0, 0) == (PAIRS, [])
    mirrored, same = flip_labels([p.flipped() for p in PAIRS], 0.25, 0)
    assert same == marks and mirrored[marks[0]] == PAIRS[marks[0]]
    with pytest.raises(CodealignError, match="--label_noise"):
        flip_labels(PAIRS, 1.0, 0)


def test_shares_are_uniform() -> None:
    values = sorted(share(3, str(i)) for i in range(2000))
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is the 1 % point.
    assert max(abs(v - (i + 0.5) / 2000) for i, v in enumerate(values)) < 1.63 / 2000**0.5
    assert share(0, "ab", "c") != share(0, "a", "bc")


def test_rows_are_prompt_completion_and_end_and_long_ones_are_counted() -> None:
    tokenizer = small.tokenizer()
    pairs = [Pair("def f():\n", "    return 1\n", "    return 2\n"), Pair("p", "x" * 300, "y")]
    rows, dropped = token_rows(pairs, tokenizer, 60)
    assert (len(rows), dropped) == (1, 1)
    assert tokenizer.decode(rows[0]["chosen_ids"]) == "def f():\n    return 1\n" + tokenizer.eos_token
    assert tokenizer.decode(rows[0]["rejected_ids"]) == "def f():\n    return 2\n" + tokenizer.eos_token
    assert token_rows(pairs, tokenizer, None)[1] == 0
    assert fitting(pairs, tokenizer, 60) == ([pairs[0]], 1)
    for function in (token_rows, fitting):
        with pytest.raises(CodealignError, match="longer than max_length=2"):
            function(pairs, tokenizer, 2)


def test_an_answer_that_stands_in_several_pairs_counts_once() -> None:
    assert answers([Pair("p", "a", "b"), Pair("p", "a", "c"), Pair("q", "a", "b")]) == [
        ("p", "a"),
        ("p", "b"),
        ("p", "c"),
        ("q", "a"),
        ("q", "b"),
    ]
