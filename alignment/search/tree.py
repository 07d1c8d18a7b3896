"""A search tree in columns: children, visits, values; selection, backup, moving the root.

Conventions of MCTS-DPO (arXiv 2405.00451): the state reward R of a node is its outcome plus confidence; the
reward of a step is R(child) - R(parent); Q(step) = reward + gamma V(child); V is the visit-weighted mean of
the children's Q. Nodes are numbered from 0, the first root, in the order in which they came; the children of
a node have consecutive numbers. Nothing is ever deleted: a move makes a child the root and leaves the rest to
be looked at, so that pairs can be picked along the path afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from alignment.search.puct import children_value, puct_score, step_priors
from codegen_eval.errors import CodealignError, unknown

Weights = Literal["visits", "max1"]

COLUMNS: dict[str, type] = {
    "parent": int,
    "first": int,
    "count": int,
    "depth": int,
    "visits": int,
    "pending": int,
    "copies": int,
    "length": int,
    "q": float,
    "v": float,
    "reward": float,
    "prior": float,
    "logp": float,
    "terminal": bool,
    "known": bool,
}
"""Lists with one entry a node: single ones are read all the time, at which arrays are slow. `reward` is R,
`known` whether anybody has said it yet, `pending` virtual losses on the way, `copies` how many equal samples
the node stands for, `length` and `logp` those of its step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One sampled continuation of a node.

    Attributes:
        tokens: Ids as sampled, one or more: they are never made from text again.
        logp: Their summed log-probability under the policy.
        text: What they say.
        terminal: Whether the answer ends here.
        reward: R, where it is known already; None leaves it to the evaluator.
        copies: Equal samples that this one stands for.
        sampled: Tokens that were sampled for it, with those behind its end that were cut off; None: its own.
    """

    tokens: tuple[int, ...]
    logp: float
    text: str = ""
    terminal: bool = False
    reward: float | None = None
    copies: int = 1
    sampled: int | None = None

    @property
    def cost(self) -> int:
        """Tokens that were sampled for it."""
        return len(self.tokens) if self.sampled is None else self.sampled


@dataclass(eq=False)
class Tree:
    """See the module's head.

    Attributes:
        prompt: Token ids of the prompt: the state of node 0.
        seed: Every node derives its own from it (`node_seed`), whatever the order of expansion.
        gamma: Discount by step.
        weights: "visits" (the paper) or "max1" (the authors' code: unvisited children count once).
        root_twice: Whether the first node of a path gets two visits, as in the authors' code.
        length_penalty: Of the priors.
        root: The node from which search goes on.
        moves: All roots so far, the present one last.
        sampled: Tokens that were sampled for the tree, merged and cut off ones included.
        tokens: Of each node's step; those of node 0 are empty.
        texts: Likewise.
    """

    prompt: tuple[int, ...] = ()
    seed: int = 0
    gamma: float = 1.0
    weights: Weights = "visits"
    root_twice: bool = False
    length_penalty: float = 1.25
    root: int = 0
    sampled: int = 0
    moves: list[int] = field(default_factory=lambda: [0])
    tokens: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    texts: list[str] = field(default_factory=lambda: [""])

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise unknown("weights", self.weights, get_args(Weights))
        if not 0 <= self.gamma <= 1:
            raise CodealignError(f"gamma is {self.gamma}: give a number from 0 to 1")
        self._columns: dict[str, list[Any]] = {name: [kind()] for name, kind in COLUMNS.items()}
        self["parent"][0] = -1
        self["known"][0] = True
        self["copies"][0] = 1

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, name: str) -> list[Any]:
        """One of `COLUMNS`, (nodes,), itself: what is written to it is written to the tree."""
        return self._columns[name]

    def children(self, node: int) -> range:
        """Numbers of a node's children; empty where it is not expanded."""
        first: int = self["first"][node]
        return range(first, first + self["count"][node])

    def is_terminal(self, node: int) -> bool:
        """Whether the answer ends at a node."""
        return bool(self["terminal"][node])

    def is_expanded(self, node: int) -> bool:
        """Whether a node has children."""
        return bool(self["count"][node])

    def enter(self, node: int) -> None:
        """Counts a walker on its way through a node: virtual loss until `leave`."""
        self["pending"][node] += 1

    def leave(self, node: int) -> None:
        """Takes a walker's virtual loss back."""
        self["pending"][node] -= 1

    def path(self, node: int) -> list[int]:
        """Nodes from the first root to this one, both included."""
        nodes = [node]
        while (parent := self["parent"][nodes[-1]]) >= 0:
            nodes.append(parent)
        return nodes[::-1]

    def prefix(self, node: int) -> tuple[int, ...]:
        """Token ids of a node's state: prompt and all steps, so that prefix caches hit."""
        return self.prompt + tuple(token for step in self.path(node) for token in self.tokens[step])

    def node_seed(self, node: int) -> int:
        """A seed for sampling a node's children: it depends on the tree's seed and the way down alone."""
        ways = [step - self["first"][self["parent"][step]] for step in self.path(node)[1:]]
        return int(np.random.SeedSequence(self.seed, spawn_key=tuple(ways)).generate_state(1, np.uint64)[0])

    def expand(self, node: int, steps: Sequence[Step]) -> range:
        """Gives a node its children, each with N = 0, V = 0, Q = V(node) + R(child) - R(node).

        Raises:
            CodealignError: For a node that is terminal or expanded, no steps, or a step of no tokens.
        """
        if self["terminal"][node] or self["count"][node]:
            what = "terminal" if self["terminal"][node] else "expanded already"
            raise CodealignError(f"node {node} is {what}: it takes no children")
        if not steps:
            raise CodealignError(f"node {node} got no steps: the sampler must give one or more")
        for place, step in enumerate(steps):
            if not step.tokens:
                raise CodealignError(
                    f"step {place} below node {node} has no tokens: the search would not end"
                )
            if step.reward is not None and not math.isfinite(step.reward):
                raise CodealignError(f"step {place} below node {node} has the reward {step.reward}")
        lengths = [len(step.tokens) for step in steps]
        priors = step_priors([step.logp for step in steps], lengths, self.length_penalty).tolist()
        number = len(steps)
        new: dict[str, Sequence[Any]] = {
            "parent": [node] * number,
            "depth": [self["depth"][node] + 1] * number,
            "length": lengths,
            "prior": priors,
            "logp": [step.logp for step in steps],
            "copies": [step.copies for step in steps],
            "terminal": [step.terminal for step in steps],
            "known": [step.reward is not None for step in steps],
            "reward": [0.0 if step.reward is None else step.reward for step in steps],
        }
        self["first"][node], self["count"][node] = len(self), number
        self.tokens += [step.tokens for step in steps]
        self.texts += [step.text for step in steps]
        for name, kind in COLUMNS.items():
            self[name].extend(map(kind, new.get(name, [0] * number)))
        for child in self.children(node):
            self["q"][child] = self["v"][node] + self.step_reward(child)
        return self.children(node)

    def select(self, node: int, *, c_puct: float = 1.0, virtual_loss: float = 1.0) -> int:
        """The child of the highest PUCT score, the first of equals.

        Children through which other walkers of this round go (`pending`) count as visited so many times more,
        and their Q as lower by `virtual_loss` each;
        the node itself as visited once more for each of them.
        """
        own = self.children(node)
        if not own:
            raise CodealignError(f"node {node} is not expanded: there is nothing to select")
        columns = self._columns
        q, visits, priors, pending = columns["q"], columns["visits"], columns["prior"], columns["pending"]
        root = math.sqrt(visits[node] + sum(pending[own.start : own.stop]))
        best, highest = own.start, -math.inf
        for child in own:
            away = pending[child]
            score = puct_score(
                q[child] - virtual_loss * away, visits[child] + away, priors[child], root, c_puct
            )
            if score > highest:
                best, highest = child, score
        return best

    def backup(self, path: Sequence[int]) -> None:
        """Counts one visit on a path, from its first node to its leaf, and renews Q and V upwards."""
        for node in reversed(path):
            self["visits"][node] += 1
            self.refresh(node)
        if self.root_twice:
            self["visits"][path[0]] += 1

    def refresh(self, node: int) -> None:
        """Recomputes a node's V from its children, and its Q; no visit is counted."""
        own = self.children(node)
        if own:
            q, visits = self["q"][own.start : own.stop], self["visits"][own.start : own.stop]
            self["v"][node] = children_value(q, visits, self.weights)
        if node:
            self["q"][node] = self.step_reward(node) + self.gamma * self["v"][node]

    def state_reward(self, node: int) -> float:
        """R of a node; where nobody has said it yet, that of the nearest node above: neutral."""
        while not self["known"][node]:
            node = self["parent"][node]
        return float(self["reward"][node])

    def step_reward(self, node: int) -> float:
        """R(node) - R(parent) of any node but the first."""
        return self.state_reward(node) - self.state_reward(self["parent"][node])

    def set_reward(self, node: int, reward: float) -> None:
        """Says R of a node that nobody could say before, and renews all Q and V that hang on it.

        Raises:
            CodealignError: For a reward that is no finite number.
        """
        if not math.isfinite(reward):
            raise CodealignError(f"the reward of node {node} is {reward}: give a finite number, or None")
        self["reward"][node], self["known"][node] = float(reward), True
        for other in reversed(range(1, len(self))):  # children have higher numbers than their parents
            self.refresh(other)
        self.refresh(0)

    def best_move(self) -> int:
        """The root's child to go on from: most visits, then highest Q, then the first.

        Raises:
            CodealignError: Where the root is not expanded.
        """
        own = self.children(self.root)
        if not own:
            raise CodealignError(f"the root {self.root} is not expanded: search before you move")
        return max(own, key=lambda child: (self["visits"][child], self["q"][child]))

    def move(self, child: int) -> None:
        """Makes a child of the root the root; its subtree with all counts is kept.

        Raises:
            CodealignError: For a node that is no child of the root.
        """
        if child not in self.children(self.root):
            raise CodealignError(f"node {child} is no child of the root {self.root}")
        self.root = child
        self.moves.append(child)
