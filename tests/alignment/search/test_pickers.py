"""Pairs out of trees: the smoothing is the losses' one, weak pairs are left out."""

from __future__ import annotations

import pytest

from alignment.search.pickers import VISITED, PairPicker, visit_alpha
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError


def tree_of(children: list[tuple[float, int]], known: bool = True) -> Tree:
    tree = Tree()
    tree.expand(0, [Step((i + 1,), -1.0, reward=0.0 if known else None) for i in range(len(children))])
    for child, (q, n) in zip(tree.children(0), children, strict=True):
        tree["q"][child], tree["visits"][child] = q, n
    return tree


def test_alpha_is_the_smoothing_of_the_losses() -> None:
    import torch

    from alignment.losses.tokens import visit_smoothing

    counts = [(a, b) for a in (0, 1, 3, 40) for b in (0, 1, 2, 50)]
    chosen, rejected = torch.tensor(counts).T
    expected = visit_smoothing(chosen, rejected).tolist()
    assert [visit_alpha(a, b) for a, b in counts] == pytest.approx(expected, abs=1e-15)


def test_weak_pairs_are_left_out_by_gap_visits_and_alpha() -> None:
    tree = tree_of([(0.1, 4), (0.3, 6), (0.2, 0)])
    assert [p.rejected for p in PairPicker().pick(tree)] == [1]
    assert PairPicker(rejected="second").pick(tree) == [], "the second best was never visited"
    assert [p.rejected for p in PairPicker(rejected="second", min_visits=0).pick(tree)] == [3]
    assert PairPicker(min_q_gap=0.2).pick(tree) == [], "the gap must be larger"
    assert PairPicker(max_alpha=0.39).pick(tree) == []
    assert PairPicker(max_alpha=0.41).pick(tree)[0].alpha == pytest.approx(0.4)


def test_a_child_left_alone_may_be_rejected_but_never_chosen() -> None:
    good = tree_of([(1.0, 5), (0.0, 0)])
    failed = tree_of([(-1.0, 5), (0.0, 0)])
    assert PairPicker().pick(good) == [] == PairPicker().pick(failed)
    (pair,) = PairPicker(min_rejected_visits=0).pick(good)
    assert (pair.chosen, pair.rejected, pair.alpha) == (1, 2, 0.0)
    assert PairPicker(min_rejected_visits=0).pick(failed) == []
    with pytest.raises(CodealignError, match="min_rejected_visits is -1"):
        PairPicker(min_rejected_visits=-1)


def test_equal_q_is_no_preference_unless_asked_for() -> None:
    tree = tree_of([(0.5, 2), (0.5, 5)])
    assert PairPicker().pick(tree) == []
    (pair,) = PairPicker(min_q_gap=None).pick(tree)
    assert (pair.chosen, pair.rejected, pair.q_gap) == (2, 1, 0.0)


def test_nodes_without_a_value_are_in_no_pair() -> None:
    tree = tree_of([(0.1, 4), (0.9, 6), (0.5, 5)])
    tree["known"][2] = False
    assert [(p.chosen, p.rejected) for p in PairPicker().pick(tree)] == [(3, 1)]
    assert PairPicker().pick(tree_of([(0.1, 4), (0.9, 6)], known=False)) == []


def test_a_tree_of_one_node_and_one_of_only_children_give_no_pair() -> None:
    chain = Tree()
    for node in range(3):
        chain.expand(node, [Step((1,), -1.0, reward=0.0)])
    for mode in VISITED:
        assert PairPicker(mode).pick(Tree()) == []
        assert PairPicker(mode).pick(chain) == []


def test_pairs_can_be_picked_below_a_move() -> None:
    tree = tree_of([(0.1, 4), (0.9, 6)])
    tree.expand(2, [Step((7,), -1.0, reward=0.0), Step((8,), -1.0, reward=1.0)])
    tree["visits"][3:] = [1, 1]
    assert [p.parent for p in PairPicker("all_nodes").pick(tree)] == [0, 2]
    assert [p.parent for p in PairPicker("all_nodes").pick(tree, root=2)] == [2]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(CodealignError, match="did you mean 'per_depth'"):
        PairPicker("perdepth")
    with pytest.raises(CodealignError, match="did you mean 'second'"):
        PairPicker(rejected="seconds")  # type: ignore[arg-type]
