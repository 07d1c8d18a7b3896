"""Search trees as JSON, read back to the last bit: pairs can be picked anew without sampling.

A file of trees is JSON lines, one tree a line, so that a job can append and go on. Floats are written in
their shortest exact form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from alignment.search.tree import COLUMNS, Step, Tree
from codegen_eval.errors import CodealignError

FORMAT = 1
_OPTIONS = [field.name for field in fields(Tree) if field.name not in ("prompt", "tokens", "texts", "moves")]


def to_json(tree: Tree) -> dict[str, Any]:
    """The tree as values that `json.dumps` takes.

    `nodes` are in the tree's order, each with id, parent (null for the first), N, Q (null for the first), V,
    R (null where unknown), logp, copies, terminal, tokens and text.

    Raises:
        CodealignError: In the middle of an iteration, when virtual losses are on the way.
    """
    if any(tree["pending"]):
        raise CodealignError("the tree is in the middle of an iteration: store it after the backup")
    nodes = [
        {
            "id": node,
            "parent": tree["parent"][node] if node else None,
            "N": tree["visits"][node],
            "Q": tree["q"][node] if node else None,
            "V": tree["v"][node],
            "R": tree["reward"][node] if tree["known"][node] else None,
            "logp": tree["logp"][node],
            "copies": tree["copies"][node],
            "terminal": tree["terminal"][node],
            "tokens": list(tree.tokens[node]),
            "text": tree.texts[node],
        }
        for node in range(len(tree))
    ]
    options = {name: getattr(tree, name) for name in _OPTIONS}
    return {
        "format": FORMAT,
        "prompt": list(tree.prompt),
        "moves": list(tree.moves),
        **options,
        "nodes": nodes,
    }


def from_json(data: Mapping[str, Any]) -> Tree:
    """The tree that `to_json` wrote: equal in every number.

    Raises:
        CodealignError: For another format, or nodes that make no tree; the node is named.
    """
    if data.get("format") != FORMAT:
        raise CodealignError(f"format {data.get('format')!r} of the tree is not {FORMAT}, the one known here")
    try:
        nodes = data["nodes"]
        tree = Tree(prompt=tuple(data["prompt"]), moves=list(data["moves"]), **{k: data[k] for k in _OPTIONS})
        _grow(tree, nodes)
        tree["visits"][:] = [int(node["N"]) for node in nodes]
        tree["v"][:] = [float(node["V"]) for node in nodes]
        tree["q"][1:] = [float(node["Q"]) for node in nodes[1:]]
        if tree.root != tree.moves[-1] or not all(0 <= move < len(tree) for move in tree.moves):
            raise CodealignError(f"root {tree.root} and moves {tree.moves} do not fit {len(tree)} nodes")
    except CodealignError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CodealignError(
            f"the stored tree lacks or garbles {error}: it was not written by this program"
        ) from error
    return tree


def _grow(tree: Tree, nodes: list[Mapping[str, Any]]) -> None:
    """Expands in the stored order: the children of a node stand side by side."""
    start = 1
    while start < len(nodes):
        parent = nodes[start]["parent"]
        stop = start
        while stop < len(nodes) and nodes[stop]["parent"] == parent:
            stop += 1
        if not isinstance(parent, int) or not 0 <= parent < start:
            raise CodealignError(
                f"node {start} of the stored tree has the parent {parent!r}, which is not before it"
            )
        for place in range(start, stop):
            if nodes[place]["id"] != place:
                raise CodealignError(f"node {place} of the stored tree has the id {nodes[place]['id']!r}")
        tree.expand(parent, [_step(node) for node in nodes[start:stop]])
        start = stop


def _step(node: Mapping[str, Any]) -> Step:
    return Step(
        tokens=tuple(node["tokens"]),
        logp=node["logp"],
        text=node["text"],
        terminal=node["terminal"],
        reward=node["R"],
        copies=node["copies"],
    )


def equal(one: Tree, other: Tree) -> bool:
    """Whether two trees are the same in structure, texts, options and every number, bit by bit."""
    names = [field.name for field in fields(Tree)]
    return all(getattr(one, name) == getattr(other, name) for name in names) and all(
        one[name] == other[name] for name in COLUMNS
    )
