"""Step pairs out of a search tree: where to look, which child is chosen and which rejected, how sure it is.

MCTS-DPO (arXiv 2405.00451) and its code; both of a pair's steps continue one prefix. `per_depth` is how
summaries give the paper's rule (its text was not at hand), `selected_path` that of the code; `all_nodes`
looks at every branching.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from alignment.search.tree import Tree
from codegen_eval.errors import CodealignError, unknown

Rejected = Literal["worst", "second"]


@dataclass(frozen=True, slots=True)
class StepPair:
    """Two children of one node, by number.

    Attributes:
        parent: The node that both continue.
        chosen: The child with the highest (Q, N).
        rejected: The lowest one, or the second highest.
        alpha: Label smoothing from the visit counts, 0 to 0.5.
        q_gap: Q(chosen) - Q(rejected).
    """

    parent: int
    chosen: int
    rejected: int
    alpha: float
    q_gap: float


@dataclass(frozen=True, slots=True)
class PairPicker:
    """Which pairs of a tree are taken.

    Attributes:
        mode: "per_depth", "selected_path" or "all_nodes".
        rejected: "worst" or "second".
        min_q_gap: Pairs need a gap above it; None keeps even pairs of equal Q.
        min_visits: Both sides need as many visits.
        min_rejected_visits: What the rejected side needs instead; None as the chosen side. With 0 a child
            that was visited and did well is set against one that selection left alone, whose Q is its first
            value still; the other way round would set an untried child above one that failed: a guess.
        max_alpha: Pairs smoothed more are dropped: at 0.5 a pair teaches nothing but a log-ratio of 0. None
            keeps all.
    """

    mode: str = "per_depth"
    rejected: Rejected = "worst"
    min_q_gap: float | None = 0.0
    min_visits: int = 1
    max_alpha: float | None = None
    min_rejected_visits: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in VISITED:
            raise unknown("mode", self.mode, VISITED)
        if self.rejected not in get_args(Rejected):
            raise unknown("rejected", self.rejected, get_args(Rejected))
        for name in ("min_visits", "min_rejected_visits"):
            if (getattr(self, name) or 0) < 0:
                raise CodealignError(f"{name} is {getattr(self, name)}: give 0 or more")

    def pick(self, tree: Tree, root: int = 0) -> list[StepPair]:
        """Pairs below `root`, in the order in which the nodes are looked at."""
        pairs = (self._pair(tree, node) for node in VISITED[self.mode](tree, root))
        return [pair for pair in pairs if pair is not None]

    def _pair(self, tree: Tree, node: int) -> StepPair | None:
        # A node that nobody could value yet says nothing; sorted() is stable, so equals keep their order.
        known = [child for child in tree.children(node) if tree["known"][child]]
        ranked = sorted(known, key=lambda child: (tree["q"][child], tree["visits"][child]))
        if len(ranked) < 2:
            return None
        chosen, rejected = ranked[-1], ranked[0 if self.rejected == "worst" else -2]
        visits = [tree["visits"][child] for child in (chosen, rejected)]
        alpha = visit_alpha(*visits)
        gap = tree["q"][chosen] - tree["q"][rejected]
        too_close = self.min_q_gap is not None and not gap > self.min_q_gap
        unsure = self.max_alpha is not None and alpha > self.max_alpha
        least = self.min_visits if self.min_rejected_visits is None else self.min_rejected_visits
        if too_close or unsure or visits[0] < self.min_visits or visits[1] < least:
            return None
        return StepPair(node, chosen, rejected, alpha, gap)


def visit_alpha(chosen: int, rejected: int) -> float:
    """Label smoothing of one pair: min(1 - 1 / (1 + N_rejected / max(1, N_chosen)), 0.5), as in the code.

    The same number as `alignment.losses.tokens.visit_smoothing` gives for tensors.
    """
    return min(1 - 1 / (1 + rejected / max(1, chosen)), 0.5)


def span(tree: Tree, node: int) -> int:
    """Largest minus least number of visits among a node's children; 0 without children."""
    own = tree.children(node)
    visits = tree["visits"][own.start : own.stop]
    return max(visits) - min(visits) if own else 0


def inner_nodes(tree: Tree, root: int) -> list[int]:
    """Nodes with children below and with `root`, breadth first."""
    nodes, place = [root], 0
    while place < len(nodes):
        nodes.extend(tree.children(nodes[place]))
        place += 1
    return [node for node in nodes if tree["count"][node]]


def selected_path(tree: Tree, root: int) -> list[int]:
    """From `root` down to a leaf, to the child of the largest (N x (span + 1), Q), the first of equals."""
    path = [root]
    while own := tree.children(path[-1]):
        path.append(
            max(own, key=lambda child: (tree["visits"][child] * (span(tree, child) + 1), tree["q"][child]))
        )
    return path


def per_depth(tree: Tree, root: int) -> list[int]:
    """At each depth the inner node of the largest N x span, the first of equals in breadth-first order."""
    levels: dict[int, list[int]] = {}
    for node in inner_nodes(tree, root):
        levels.setdefault(tree["depth"][node], []).append(node)
    return [max(level, key=lambda node: tree["visits"][node] * span(tree, node)) for level in levels.values()]


VISITED: dict[str, Callable[[Tree, int], Sequence[int]]] = {
    "per_depth": per_depth,
    "selected_path": selected_path,
    "all_nodes": inner_nodes,
}
