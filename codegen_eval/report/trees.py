"""Reads search trees (rows of `trees-*.jsonl`, as `codealign mcts-dpo` stores them) and makes them ready.

A tree becomes a list of nodes, parents before their children, each with how many levels close behind it, so
that the template needs no recursion. Numbers are those of the search: N visits, Q, the prior of selection, R.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.report.text import Excerpt, excerpt, number, short
from codegen_eval.runs import read_jsonl

# Of all trees of the page together, and of one; what is beyond is counted.
TREE_BYTES = 3_000_000
MAX_NODES = 2_500
# Browsers stop nesting elements at about 500; a level takes two.
MAX_DEPTH = 150
_PAIRS = "pairs.jsonl"
_LINE, _TEXT = 110, 2000

Nodes = Sequence[Mapping[str, Any]]
Marks = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class ShownNode:
    """One node.

    Attributes:
        line: Its step in one line.
        text: Its step, where that line does not show all of it.
        figures: (name, value) of N, Q, prior, R.
        mark: "+" chosen in a pair, "−" rejected, else empty.
        ended: Whether the answer is over here.
        current: Whether the search moved through it.
        inner: Whether it has children on the page.
        opened: Whether they are shown at first.
        closes: Levels that end behind it.
    """

    line: str
    text: Excerpt | None
    figures: tuple[tuple[str, str], ...]
    mark: str
    ended: bool
    current: bool
    inner: bool
    opened: bool
    closes: int


@dataclass(frozen=True, slots=True)
class ShownTree:
    """A tree ready for the template; `more` says in words what is left out."""

    name: str
    summary: str
    prompt: Excerpt
    nodes: tuple[ShownNode, ...]
    more: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TreesRun:
    """All trees in figures, and some to look at.

    Attributes:
        files: Those that were read.
        total: Number of trees.
        nodes: Their nodes.
        pairs: Pairs that were made of them, None where they do not lie beside them.
        shown: For the template.
        left_out: How many were to be shown but would have made the page too large.
    """

    files: tuple[Path, ...]
    total: int
    nodes: int
    pairs: int | None
    shown: tuple[ShownTree, ...]
    left_out: int


def load_trees(path: Path, *, shown: int, seed: int) -> TreesRun:
    """Reads trees and makes `shown` of them ready: those with pairs first, each kind drawn by the seed.

    Args:
        path: A file of trees, a round's folder, or the run directory of `codealign mcts-dpo`, of which the
            last round is taken.
        shown: How many trees.
        seed: Decides which.

    Raises:
        CodealignError: There are no trees, or one is broken.
    """
    files = find_trees(path)
    pairs = files[0].parent / _PAIRS
    marks, count = _marks(pairs) if pairs.is_file() else ({}, None)
    places: list[tuple[int, str]] = []
    nodes = 0
    for place, (where, row) in enumerate(_rows(files)):
        nodes += len(_checked(row, where))
        places.append((place, str(row.get("task_id", ""))))
    random.Random(f"{seed}/trees").shuffle(places)
    wanted = [place for place, name in sorted(places, key=lambda one: one[1] not in marks)[:shown]]
    ready: dict[int, ShownTree] = {}
    for place, (where, row) in enumerate(_rows(files)):
        if place in wanted:
            name = str(row.get("task_id", f"tree {place + 1}"))
            ready[place] = _tree(name, row, _checked(row, where), marks.get(name, {}), place == wanted[0])
    kept: list[ShownTree] = []
    left = TREE_BYTES
    for place in wanted:
        left -= ready[place].bytes
        if left < 0:
            break
        kept.append(ready[place])
    return TreesRun(tuple(files), len(places), nodes, count, tuple(kept), len(wanted) - len(kept))


def find_trees(path: Path) -> list[Path]:
    """The files of trees at a path, in order.

    Raises:
        CodealignError: There are none.
    """
    if path.is_file():
        return [path]
    rounds = sorted(path.glob("round-*"), key=lambda folder: (len(folder.name), folder.name))
    for folder in (path, *reversed(rounds)):
        if files := sorted(folder.glob("trees-*.jsonl")):
            return files
    raise CodealignError(
        f"{path} holds no trees: --trees wants the directory of a `codealign mcts-dpo` run, one of its "
        "rounds, or a file of trees"
    )


def _rows(files: Sequence[Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for file in files:
        for line, row in enumerate(read_jsonl(file)):
            yield f"{file}:{line + 1}", row


def _marks(pairs: Path) -> tuple[dict[str, dict[int, str]], int]:
    """Chosen and rejected nodes by task, and the number of pairs."""
    found: dict[str, dict[int, str]] = {}
    count = 0
    for line, row in enumerate(read_jsonl(pairs)):
        nodes = row.get("nodes")
        if not isinstance(nodes, list) or len(nodes) != 3 or not all(type(node) is int for node in nodes):
            raise CodealignError(
                f"{pairs}:{line + 1}: 'nodes' must be three numbers: parent, chosen, rejected"
            )
        of = found.setdefault(str(row.get("task_id", "")), {})
        of[nodes[1]], of[nodes[2]] = "+", "−"
        count += 1
    return found, count


def _checked(row: Mapping[str, Any], where: str) -> Nodes:
    """The nodes of a stored tree; whatever the page reads of them has its type.

    Raises:
        CodealignError: With the file's line.
    """
    tree = row.get("tree")
    nodes = tree.get("nodes") if isinstance(tree, Mapping) else None
    if not isinstance(nodes, list) or not nodes or not isinstance(tree, Mapping):
        raise CodealignError(f"{where}: no tree of `codealign mcts-dpo`")
    penalty = tree.get("length_penalty")
    if not _finite(penalty) or not isinstance(tree.get("moves"), list):
        raise CodealignError(f"{where}: the tree lacks length_penalty or moves")
    for place, node in enumerate(nodes):
        good = isinstance(node, Mapping) and isinstance(node.get("text"), str) and _finite(node.get("N"))
        good = good and isinstance(node.get("tokens"), list) and type(node.get("terminal")) is bool
        if good and place:
            parent = node.get("parent")
            good = type(parent) is int and 0 <= parent < place and _finite(node.get("Q"))
            good = good and _finite(node.get("logp")) and bool(node["tokens"])
            good = good and (node.get("R") is None or _finite(node["R"]))
        if not good:
            raise CodealignError(f"{where}: node {place} of the tree is broken")
    return nodes


def _tree(name: str, row: Mapping[str, Any], nodes: Nodes, marks: Marks, opened: bool) -> ShownTree:
    """One tree: depth first, children by Q as selection and pickers see them."""
    below: dict[int, list[int]] = {}
    depth = [0] * len(nodes)
    for place, node in enumerate(nodes[1:], 1):
        below.setdefault(node["parent"], []).append(place)
        depth[place] = depth[node["parent"]] + 1
    kept = {place for place in range(len(nodes)) if depth[place] <= MAX_DEPTH and place <= MAX_NODES}
    # A node that leads to a pair is open, so that its sides are seen.
    leads: set[int] = set()
    for marked in marks.keys() & kept:
        above = int(nodes[marked].get("parent") or 0)
        while above not in leads:
            leads.add(above)
            above = int(nodes[above].get("parent") or 0)
    moves = {move for move in row["tree"]["moves"] if type(move) is int}
    penalty = float(row["tree"]["length_penalty"])
    order: list[tuple[int, int]] = []  # node, levels that close behind it
    # Taken from its end; the last child of a node closes its parent's level and all that end with it.
    stack = [(child, 0) for child in reversed(_ranked(below.get(0, ()), nodes, kept))]
    while stack:
        place, closing = stack.pop()
        children = _ranked(below.get(place, ()), nodes, kept)
        order.append((place, 0 if children else closing))
        for i, child in enumerate(reversed(children)):
            stack.append((child, 0 if i else closing + 1))
    shown = tuple(
        _node(
            nodes[place],
            penalty,
            mark=marks.get(place, ""),
            current=place in moves,
            inner=bool(_ranked(below.get(place, ()), nodes, kept)),
            opened=opened and place in leads,
            closes=closes,
        )
        for place, closes in order
    )
    more = ""
    if len(kept) < len(nodes):
        more = f"{len(nodes) - len(kept):,} of {len(nodes):,} nodes are not shown"
    ended = sum(node["terminal"] for node in nodes)
    prompt = row.get("prompt")
    text = excerpt(prompt if isinstance(prompt, str) else "", characters=_TEXT, lines=40, width=160)
    pairs = sum(mark == "+" for mark in marks.values())
    return ShownTree(
        short(name),
        f"{len(nodes) - 1:,} steps, {ended:,} answers, {max(depth)} deep, pairs: {pairs}",
        text,
        shown,
        more,
        sum(_cost(node) for node in shown) + 5 * len(text.text.encode("utf-8", "replace")) + 600,
    )


def _ranked(children: Sequence[int], nodes: Nodes, kept: set[int]) -> list[int]:
    """Children on the page, highest (Q, N) first."""
    return sorted(
        (child for child in children if child in kept), key=lambda c: (-nodes[c]["Q"], -nodes[c]["N"], c)
    )


def _node(
    node: Mapping[str, Any],
    penalty: float,
    *,
    mark: str,
    current: bool,
    inner: bool,
    opened: bool,
    closes: int,
) -> ShownNode:
    line = short(node["text"].strip("\n"), _LINE)
    whole = excerpt(node["text"].strip("\n"), characters=_TEXT, lines=40, width=160)
    reward = node.get("R")
    figures = (
        ("N", number(node["N"])),
        ("Q", _two(node["Q"])),
        ("prior", _two(step_prior(node["logp"], len(node["tokens"]), penalty))),
        ("R", "unknown" if reward is None else _two(reward)),
    )
    return ShownNode(
        line or "(nothing)",
        None if whole.text == line and not whole.note else whole,
        figures,
        mark,
        node["terminal"],
        current,
        inner,
        opened,
        closes,
    )


def step_prior(logp: float, tokens: int, length_penalty: float) -> float:
    """exp(log-probability / tokens^length_penalty), the prior of selection (arXiv 2405.00451)."""
    return math.exp(min(logp, 0.0) / tokens**length_penalty)


def _two(value: float) -> str:
    """Two decimals with a real minus sign, none before 0."""
    return f"{round(float(value), 2) + 0.0:.2f}".replace("-", "−")


def _cost(node: ShownNode) -> int:
    """About how many bytes of HTML a node takes: every character of a text could be an entity of five."""
    texts = [node.line, node.text.text if node.text else ""]
    escaped = sum(len(t.encode("utf-8", "replace")) + 4 * sum(map(t.count, "&<>\"'")) for t in texts)
    return escaped + 330 + 25 * texts[1].count("\n") + (80 if node.text else 0)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
