"""Search in lockstep: the trees of many prompts, one call to the sampler and one to the evaluator for all.

An iteration follows MCTS-DPO's code (arXiv 2405.00451): a walker goes down from the root by PUCT, expands
every unexpanded node that it meets and goes on until a terminal node or the look-ahead depth; its path is
then backed up. There is no roll-out policy. Every tree goes on by itself, over as many iterations as it can,
until it needs steps; then all trees get theirs in one call. A sampler that takes requests while it draws
others (`Stream`) hands out what is ready, and those trees go on while the rest is drawn. What is sampled for
a node depends on its seed alone (`Tree.node_seed`), so that a batch gives the trees that one prompt after the
other would give, as long as the sampler keeps to the seeds it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from alignment.search.duplicates import Key, merge_steps
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Request:
    """A node whose children are to be sampled: `breadth` continuations of `prefix`, with its own seed.

    `depth` counts from the present root; at `last` the answer has to be brought to its end in one step;
    `answered` says how many tokens at the end of `prefix` belong to the answer.
    """

    tree: int
    node: int
    prefix: tuple[int, ...]
    text: str
    breadth: int
    seed: int
    depth: int
    last: bool
    answered: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step to be valued, and where it hangs: the evaluator says R of the state that it leads to."""

    tree: int
    prefix: tuple[int, ...]
    text: str
    step: Step
    parent_depth: int
    parent_reward: float
    answered: int = 0


Sampler = Callable[[Sequence[Request]], Sequence[Sequence[Step]]]
Evaluator = Callable[[Sequence[Candidate]], Sequence[float | None]]
Most = Callable[[Request], int]
"""The most tokens that a sampler would sample for a request."""
Answers = list[tuple[Request, Sequence[Step]]]
_READY = 1 / 8
"""Share of the trees on the way that must be ready before they are valued: an evaluator gets batches, too."""


@runtime_checkable
class Stream(Protocol):
    """A sampler that takes requests while it draws others."""

    def begin(self, requests: Sequence[Request]) -> None:
        """Takes requests up, beside those on the way."""

    def ended(self) -> Answers:
        """Draws on until requests are over, one at least, and gives these with their steps."""
        ...

    def drop(self) -> None:
        """Gives up what is on the way."""


class _AtOnce:
    """A plain sampler as a stream: what was begun is answered by one call."""

    def __init__(self, sample: Sampler) -> None:
        self.sample, self.begun = sample, list[Request]()

    def begin(self, requests: Sequence[Request]) -> None:
        self.begun += requests

    def ended(self) -> Answers:
        requests, self.begun = self.begun, []
        answers = self.sample(requests)
        if len(answers) != len(requests):
            raise CodealignError(
                f"the sampler was asked for {len(requests)} nodes and answered for {len(answers)}"
            )
        return list(zip(requests, answers, strict=True))

    def drop(self) -> None:
        self.begun = []


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How one search runs.

    Attributes:
        iterations: Paths from each root.
        breadth: Children of a node; `root_breadth` those of a root, as `breadth` where None.
        root_breadth: See above.
        depth_limit: Look-ahead in steps from the present root.
        walkers: Paths of one tree that go down together, kept apart by virtual loss.
        c_puct: Weight of the prior term.
        virtual_loss: What a walker on the way takes off a child's Q.
        force_end: Whether a node at the depth limit gets one child that runs to the end, as in the authors'
            `force_terminating_on_depth_limit`; the sampler is told by `Request.last`.
        tokens: Most tokens sampled for one tree, all its searches together; None for no limit. A tree takes
            no further path once an expansion could exceed it, so what it becomes does not depend on others.
    """

    iterations: int = 16
    breadth: int = 2
    root_breadth: int | None = None
    depth_limit: int = 8
    walkers: int = 1
    c_puct: float = 1.0
    virtual_loss: float = 1.0
    force_end: bool = False
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("iterations", "breadth", "depth_limit", "walkers"):
            if getattr(self, name) < 1:
                raise CodealignError(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.root_breadth is not None and self.root_breadth < 1:
            raise CodealignError(f"root_breadth is {self.root_breadth}: give 1 or more, or none")
        if self.tokens is not None and self.tokens < 1:
            raise CodealignError(f"tokens is {self.tokens}: give 1 or more, or none for no limit")
        if self.c_puct < 0 or self.virtual_loss < 0:
            raise CodealignError("c_puct and virtual_loss must be 0 or more")


def search(
    trees: Sequence[Tree],
    sample: Sampler | Stream,
    evaluate: Evaluator,
    options: SearchOptions,
    *,
    key: Key,
    texts: Sequence[str] | None = None,
    most: Most | None = None,
) -> int:
    """Runs all iterations from each tree's root, in place; gives the number of tokens that were sampled.

    Args:
        trees: One a prompt; fresh, or moved on, or read back.
        sample: Gives each request's steps, 1 to `breadth` of them, in order; or a `Stream`.
        evaluate: Gives each candidate's R, None where it cannot be said now (the sandbox broke): that prunes
            nothing, and the node is asked for again before the next round and at the end.
        options: See `SearchOptions`.
        key: What makes siblings equal (`duplicates.by_text`, `by_program`, ...).
        texts: Of the prompts, for key and evaluator; empty strings where None.
        most: What `options.tokens` needs to know of the sampler.

    Raises:
        CodealignError: Where sampler or evaluator give another number of answers than they were asked for,
            or `options.tokens` does not allow the first expansion.
    """
    texts = [""] * len(trees) if texts is None else texts
    if len(texts) != len(trees):
        raise CodealignError(f"{len(trees)} trees need as many texts, got {len(texts)}")
    run = _Run(trees, sample, evaluate, options, key, texts, _allowance(options, most))
    run.check_first()
    tokens = run.all()
    value_unknown(trees, evaluate, texts)
    return tokens


def _allowance(options: SearchOptions, most: Most | None) -> Most:
    if options.tokens is None:
        return lambda _: 0
    if most is None:
        raise CodealignError(
            f"a budget of {options.tokens} tokens needs `most`: what a request of the sampler can cost"
        )
    return most


@dataclass(slots=True)
class _State:
    """Where one tree stands: iterations left, paths of the present round, whether R was asked for anew."""

    left: int
    paths: list[list[int]] = field(default_factory=list)
    asked: bool = False


class _Run:
    """One search: its arguments, where each tree stands, and the trees whose budget is spent."""

    def __init__(
        self,
        trees: Sequence[Tree],
        sample: Sampler | Stream,
        evaluate: Evaluator,
        options: SearchOptions,
        key: Key,
        texts: Sequence[str],
        most: Most,
    ) -> None:
        self.trees = trees
        self.stream = sample if isinstance(sample, Stream) else _AtOnce(sample)
        self.evaluate = evaluate
        self.options = options
        self.key = key
        self.texts = texts
        self.most = most
        self.states = [_State(options.iterations) for _ in trees]
        self.spent: set[int] = set()
        self.away: dict[int, list[Request]] = {}
        self.answers: dict[tuple[int, int], Sequence[Step]] = {}

    def check_first(self) -> None:
        """Refuses a budget with which nothing could be sampled at all."""
        budget = self.options.tokens
        for t, tree in enumerate(self.trees):
            if budget is None or len(tree) > 1 or tree["terminal"][0]:
                continue
            need = self.most(self.request(t, 0))
            if need > budget:
                raise CodealignError(
                    f"a budget of {budget} tokens a tree is less than one expansion, which may take {need}: "
                    f"raise it to {need} or more, or lower the breadth or the tokens of a step"
                )

    def all(self) -> int:
        """Every iteration of every tree; gives the sampled tokens."""
        try:
            return self._all()
        finally:
            self.stream.drop()

    def _all(self) -> int:
        tokens = 0
        while True:
            doubtful = [t for t, state in enumerate(self.states) if state.asked]
            if doubtful:
                trees, texts = [self.trees[t] for t in doubtful], [self.texts[t] for t in doubtful]
                value_unknown(trees, _numbered(self.evaluate, doubtful), texts)
            here = (t for t in range(len(self.trees)) if t not in self.away)
            needed = [self.request(t, node) for t in here for node in self.advance(t)]
            if granted := self.affordable(needed):
                for request in granted:
                    self.away.setdefault(request.tree, []).append(request)
                self.stream.begin(granted)
            if self.away:
                tokens += self.expand(self.ready())
            elif not needed and not any(state.asked for state in self.states):
                return tokens

    def ready(self) -> list[Request]:
        """Waits for trees to have all their steps; the requests of these trees, in the trees' order."""
        least = max(1, int(_READY * len(self.away)))
        while True:
            for request, steps in self.stream.ended():
                _check_steps(request, steps)
                self.answers[request.tree, request.node] = steps
            trees = [
                t
                for t in sorted(self.away)
                if all((t, request.node) in self.answers for request in self.away[t])
            ]
            if len(trees) >= least:
                return [request for t in trees for request in self.away.pop(t)]

    def advance(self, t: int) -> list[int]:
        """Goes on with one tree until it needs steps; the nodes that need them, none where it is done.

        Where a value is missing it stops once before each round, with `asked` set.
        """
        tree, state = self.trees[t], self.states[t]
        while True:
            if not state.paths:
                if not state.left or t in self.spent:
                    return []
                if not state.asked and not all(tree["known"]):
                    state.asked = True
                    return []
                state.asked = False
                number = min(self.options.walkers, state.left)
                state.left -= number
                state.paths = [[tree.root] for _ in range(number)]
            if nodes := self.descend(t):
                return nodes
            self.back_up(t)

    def descend(self, t: int) -> list[int]:
        """Moves every walker of a tree down to its end or to an unexpanded node; gives these nodes."""
        tree, options = self.trees[t], self.options
        moving = self.states[t].paths
        while moving:
            moving = [p for p in moving if tree.is_expanded(p[-1]) and not _ended(tree, p, options)]
            for path in moving:
                child = tree.select(path[-1], c_puct=options.c_puct, virtual_loss=options.virtual_loss)
                tree.enter(child)
                path.append(child)
        if t in self.spent:
            return []
        open_paths = [path for path in self.states[t].paths if not _ended(tree, path, options)]
        return list(dict.fromkeys(path[-1] for path in open_paths))

    def back_up(self, t: int) -> None:
        """Ends a tree's round."""
        tree, state = self.trees[t], self.states[t]
        for path in state.paths:
            for node in path[1:]:
                tree.leave(node)
            tree.backup(path)
        state.paths = []

    def affordable(self, requests: Sequence[Request]) -> list[Request]:
        """The requests that no tree's budget forbids, whatever the others of this call will cost."""
        budget = self.options.tokens
        if budget is None:
            return list(requests)
        granted: list[Request] = []
        reserved: dict[int, int] = {}
        for request in requests:
            need = reserved.get(request.tree, self.trees[request.tree].sampled) + self.most(request)
            if need > budget:
                self.spent.add(request.tree)
            else:
                reserved[request.tree] = need
                granted.append(request)
        return granted

    def request(self, t: int, node: int) -> Request:
        """What the sampler is asked for below a node."""
        tree, options = self.trees[t], self.options
        depth = tree["depth"][node] - tree["depth"][tree.root]
        last = options.force_end and depth == options.depth_limit
        breadth = options.root_breadth if node == tree.root and options.root_breadth else options.breadth
        prefix = tree.prefix(node)
        return Request(
            tree=t,
            node=node,
            prefix=prefix,
            text=self.texts[t] + "".join(tree.texts[step] for step in tree.path(node)),
            breadth=1 if last else breadth,
            seed=tree.node_seed(node),
            depth=depth,
            last=last,
            answered=len(prefix) - len(tree.prompt),
        )

    def expand(self, requests: Sequence[Request]) -> int:
        """Merges, values and hangs in the children of nodes; gives the tokens that were sampled for them."""
        answers = [self.answers.pop((request.tree, request.node)) for request in requests]
        merged = [merge_steps(r.text, steps, self.key) for r, steps in zip(requests, answers, strict=True)]
        candidates = [
            Candidate(r.tree, r.prefix, r.text, step, *_parent(self.trees[r.tree], r.node), r.answered)
            for r, steps in zip(requests, merged, strict=True)
            for step in steps
            if step.reward is None
        ]
        rewards = iter(_values(self.evaluate, candidates))
        for request, steps, all_steps in zip(requests, merged, answers, strict=True):
            valued = [
                step if step.reward is not None else replace(step, reward=next(rewards)) for step in steps
            ]
            self.trees[request.tree].expand(request.node, valued)
            self.trees[request.tree].sampled += sum(step.cost for step in all_steps)
        return sum(step.cost for steps in answers for step in steps)


def _numbered(evaluate: Evaluator, trees: Sequence[int]) -> Evaluator:
    """The evaluator for some of the trees, whose numbers the candidates get back."""
    return lambda candidates: evaluate([replace(c, tree=trees[c.tree]) for c in candidates])


def _check_steps(request: Request, steps: Sequence[Step]) -> None:
    if not 1 <= len(steps) <= request.breadth:
        raise CodealignError(
            f"the sampler gave {len(steps)} steps below node {request.node} of tree {request.tree}, "
            f"asked for 1 to {request.breadth}"
        )


def _ended(tree: Tree, path: list[int], options: SearchOptions) -> bool:
    limit = options.depth_limit + options.force_end
    return tree.is_terminal(path[-1]) or len(path) > limit


def value_unknown(trees: Sequence[Tree], evaluate: Evaluator, texts: Sequence[str]) -> int:
    """Asks again for every node that has no R yet, in one call; gives how many are left without."""
    unknown = [
        (t, node) for t, tree in enumerate(trees) for node, known in enumerate(tree["known"]) if not known
    ]
    candidates = []
    for t, node in unknown:
        tree, parent = trees[t], trees[t]["parent"][node]
        before = texts[t] + "".join(tree.texts[step] for step in tree.path(parent))
        step = Step(tree.tokens[node], tree["logp"][node], tree.texts[node], tree["terminal"][node])
        prefix = tree.prefix(parent)
        answered = len(prefix) - len(tree.prompt)
        candidates.append(Candidate(t, prefix, before, step, *_parent(tree, parent), answered))
    left = 0
    for (t, node), reward in zip(unknown, _values(evaluate, candidates), strict=True):
        if reward is None:
            left += 1
        else:
            trees[t].set_reward(node, reward)
    return left


def _parent(tree: Tree, node: int) -> tuple[int, float]:
    return tree["depth"][node], tree.state_reward(node)


def _values(evaluate: Evaluator, candidates: Sequence[Candidate]) -> Sequence[float | None]:
    if not candidates:
        return []
    rewards = evaluate(candidates)
    if len(rewards) != len(candidates):
        raise CodealignError(f"the evaluator was asked for {len(candidates)} values and gave {len(rewards)}")
    return rewards
