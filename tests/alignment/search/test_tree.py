"""The tree against a search on plain dictionaries; moving, late values, storage to the last bit."""

from __future__ import annotations

import json
import math

import pytest

from alignment.search.duplicates import by_text
from alignment.search.lockstep import SearchOptions, search
from alignment.search.storage import equal, from_json, to_json
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError
from tests.alignment.search.made_up import evaluate, sample


def grown(seed: int = 1, **options: object) -> Tree:
    tree = Tree((9, 8), seed, **options)  # type: ignore[arg-type]
    search([tree], sample, evaluate, SearchOptions(iterations=12, breadth=3, depth_limit=5), key=by_text)
    return tree


def test_a_search_is_that_of_the_textbook_rules() -> None:
    """Selection and backup anew, on dictionaries, over the steps that the tree has."""
    tree = grown(gamma=0.9)
    n = dict.fromkeys(range(len(tree)), 0)
    v = dict.fromkeys(n, 0.0)
    r = {node: float(tree["reward"][node]) for node in n}
    up = {node: tree["parent"][node] for node in n}
    q = {node: r[node] - r[up[node]] for node in n if node}
    prior = {k: math.exp(tree["logp"][k] / len(tree.tokens[k]) ** 1.25) for k in n if k}
    for _ in range(12):
        path = [0]
        while not tree["terminal"][path[-1]] and len(path) <= 5:
            node = path[-1]
            score = {k: q[k] + prior[k] * math.sqrt(n[node]) / (1 + n[k]) for k in tree.children(node)}
            path.append(max(score, key=lambda k: score[k]))
        for node in path[::-1]:
            n[node] += 1
            own = tree.children(node)
            if own:
                v[node] = sum(n[k] * q[k] for k in own) / sum(n[k] for k in own)
            if node:
                q[node] = r[node] - r[up[node]] + 0.9 * v[node]
    assert [n[k] for k in n] == tree["visits"]
    assert [v[k] for k in n] == pytest.approx(tree["v"])
    assert [q[k] for k in n if k] == pytest.approx(tree["q"][1:])


def test_the_tree_knows_its_prefixes_and_grows_beyond_its_first_arrays() -> None:
    tree = grown()
    assert len(tree) > 16
    for node in range(1, len(tree)):
        assert tree.prefix(node) == tree.prefix(tree["parent"][node]) + tree.tokens[node]
        assert node in tree.children(tree["parent"][node])
        assert tree["depth"][node] == len(tree.path(node)) - 1


def test_seeds_differ_by_node_and_tree_and_not_by_the_order_of_expansion() -> None:
    one, other = Tree(seed=3), Tree(seed=3)
    steps = [Step((1,), -1.0, reward=0.0), Step((2,), -1.0, reward=0.0)]
    for tree, order in ((one, (1, 2)), (other, (2, 1))):
        tree.expand(0, steps)
        for node in order:
            tree.expand(node, steps)
    seeds = {one.prefix(node): one.node_seed(node) for node in range(7)}
    assert seeds == {other.prefix(node): other.node_seed(node) for node in range(7)}
    assert len(set(seeds.values())) == 7
    assert not set(seeds.values()) & {Tree(seed=4).node_seed(0)}


def test_a_stored_tree_comes_back_to_the_last_bit() -> None:
    tree = grown(gamma=0.95, weights="max1", root_twice=True)
    tree.move(tree.best_move())
    again = from_json(json.loads(json.dumps(to_json(tree))))
    assert equal(again, tree)
    options = SearchOptions(iterations=5, breadth=3, depth_limit=5)
    for either in (tree, again):
        search([either], sample, evaluate, options, key=by_text)
    assert equal(again, tree), "the search went on in another way"
    again["q"][1] = math.nextafter(again["q"][1], 9.0)
    assert not equal(again, tree)


def test_garbled_trees_are_refused() -> None:
    good = to_json(grown())
    for change, message in (
        ({"format": 2}, "format 2"),
        ({"nodes": good["nodes"][:1] + good["nodes"][2:]}, "has the id 2"),
        ({"nodes": [good["nodes"][0], {**good["nodes"][1], "parent": 7}]}, "not before it"),
        ({"moves": [99]}, "do not fit"),
        ({"nodes": [{**good["nodes"][0], "N": "many"}]}, "garbles"),
        ({"nodes": [{"id": 0}]}, "lacks or garbles 'N'"),
    ):
        with pytest.raises(CodealignError, match=message):
            from_json({**good, **change})


def test_a_move_keeps_the_subtree_and_leaves_what_is_above_it() -> None:
    tree = grown()
    child = tree.best_move()
    assert tree["visits"][child] == max(tree["visits"][node] for node in tree.children(0))
    below, above = tree["visits"].copy(), tree["visits"][0]
    tree.move(child)
    assert tree["visits"] == below and tree.moves == [0, child]
    search([tree], sample, evaluate, SearchOptions(iterations=4, breadth=3, depth_limit=5), key=by_text)
    assert tree["visits"][child] == below[child] + 4 and tree["visits"][0] == above
    with pytest.raises(CodealignError, match="no child of the root"):
        tree.move(child)


def test_a_value_that_comes_late_leaves_the_tree_as_if_it_had_been_there() -> None:
    def build(late: bool) -> Tree:
        tree = Tree(gamma=0.9)
        first = Step((1,), -1.0, reward=None if late else 0.4)
        tree.expand(0, [first, Step((2,), -1.0, reward=0.1)])
        inner = Step((3,), -1.0, reward=None if late else -1.0, terminal=True)
        tree.expand(1, [inner, Step((4,), -1.0, reward=1.0)])
        for path in ([0, 1, 3], [0, 2], [0, 1, 4], [0, 1, 3]):
            tree.backup(path)
        if late:
            assert tree.step_reward(1) == 0 and tree.step_reward(3) == 0
            tree.set_reward(3, -1.0)
            tree.set_reward(1, 0.4)
        return tree

    assert equal(build(late=True), build(late=False))


def test_virtual_loss_sends_walkers_apart_and_leaves_no_trace() -> None:
    tree = Tree()
    tree.expand(0, [Step((1,), -0.1, reward=0.5), Step((2,), -0.1, reward=0.4)])
    assert tree.select(0) == 1
    tree["pending"][1] = 1
    assert tree.select(0) == 2
    assert tree.select(0, virtual_loss=0.0, c_puct=0.0) == 1
    assert (
        tree.select(0, virtual_loss=0.05, c_puct=0.0) == 1
        and tree.select(0, virtual_loss=0.2, c_puct=0.0) == 2
    )
    # One visit on the way halves the prior term: 0.5 + 0.9 / 2 falls below 0.4 + 0.9.
    assert tree.select(0, virtual_loss=0.0) == 2
    with pytest.raises(CodealignError, match="middle of an iteration"):
        to_json(tree)


def test_impossible_expansions_are_refused() -> None:
    tree = Tree()
    for steps, message in (
        ([], "got no steps"),
        ([Step((), -1.0)], "has no tokens"),
        ([Step((1,), 0.5)], "above 0"),
        ([Step((1,), -1.0, reward=math.nan)], "the reward nan"),
    ):
        with pytest.raises(CodealignError, match=message):
            tree.expand(0, steps)
        assert len(tree) == 1, "a refused expansion left nodes behind"
    tree.expand(0, [Step((1,), -1.0, terminal=True)])
    for node, message in ((0, "expanded already"), (1, "terminal")):
        with pytest.raises(CodealignError, match=message):
            tree.expand(node, [Step((1,), -1.0)])
    with pytest.raises(CodealignError, match="did you mean 'visits'"):
        Tree(weights="visit")  # type: ignore[arg-type]
