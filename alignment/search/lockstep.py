"""Search in lockstep: the trees of many prompts, one call to the sampler and one to the evaluator a level.

An iteration follows MCTS-DPO's code (arXiv 2405.00451): a walker goes down from the root by PUCT, expands
every unexpanded node that it meets and goes on until a terminal node or the look-ahead depth; its path is
then backed up. There is no roll-out policy. What is sampled for a node depends on its seed alone
(`Tree.node_seed`), so that a batch gives the trees that one prompt after the other would give, as long as the
sampler keeps to the seeds it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from alignment.search.duplicates import Key, merge_steps
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Request:
    """A node whose children are to be sampled: `breadth` continuations of `prefix`, with its own seed.

    `depth` counts from the present root; at `last` the answer has to be brought to its end in one step.
    """

    tree: int
    node: int
    prefix: tuple[int, ...]
    text: str
    breadth: int
    seed: int
    depth: int
    last: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step to be valued, and where it hangs: the evaluator says R of the state that it leads to."""

    tree: int
    prefix: tuple[int, ...]
    text: str
    step: Step
    parent_depth: int
    parent_reward: float


Sampler = Callable[[Sequence[Request]], Sequence[Sequence[Step]]]
Evaluator = Callable[[Sequence[Candidate]], Sequence[float | None]]


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
    """

    iterations: int = 16
    breadth: int = 2
    root_breadth: int | None = None
    depth_limit: int = 8
    walkers: int = 1
    c_puct: float = 1.0
    virtual_loss: float = 1.0
    force_end: bool = False

    def __post_init__(self) -> None:
        for name in ("iterations", "breadth", "depth_limit", "walkers"):
            if getattr(self, name) < 1:
                raise CodealignError(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.root_breadth is not None and self.root_breadth < 1:
            raise CodealignError(f"root_breadth is {self.root_breadth}: give 1 or more, or none")
        if self.c_puct < 0 or self.virtual_loss < 0:
            raise CodealignError("c_puct and virtual_loss must be 0 or more")


def search(
    trees: Sequence[Tree],
    sample: Sampler,
    evaluate: Evaluator,
    options: SearchOptions,
    *,
    key: Key,
    texts: Sequence[str] | None = None,
) -> int:
    """Runs all iterations from each tree's root, in place; gives the number of tokens that were sampled.

    Args:
        trees: One a prompt; fresh, or moved on, or read back.
        sample: Gives each request's steps, 1 to `breadth` of them, in order.
        evaluate: Gives each candidate's R, None where it cannot be said now (the sandbox broke): that prunes
            nothing, and the node is asked for again before the next round and at the end.
        options: See `SearchOptions`.
        key: What makes siblings equal (`duplicates.by_text`, `by_program`, ...).
        texts: Of the prompts, for key and evaluator; empty strings where None.

    Raises:
        CodealignError: Where sampler or evaluator give another number of answers than they were asked for.
    """
    texts = [""] * len(trees) if texts is None else texts
    if len(texts) != len(trees):
        raise CodealignError(f"{len(trees)} trees need as many texts, got {len(texts)}")
    tokens = 0
    for start in range(0, options.iterations, options.walkers):
        value_unknown(trees, evaluate, texts)
        number = min(options.walkers, options.iterations - start)
        tokens += _round(trees, number, sample, evaluate, options, key, texts)
    value_unknown(trees, evaluate, texts)
    return tokens


def _round(
    trees: Sequence[Tree],
    number: int,
    sample: Sampler,
    evaluate: Evaluator,
    options: SearchOptions,
    key: Key,
    texts: Sequence[str],
) -> int:
    """One path of each walker of each tree, level by level."""
    paths = [(t, [tree.root]) for t, tree in enumerate(trees) for _ in range(number)]
    tokens, moving = 0, paths
    while moving:
        moving = [(t, path) for t, path in moving if not _ended(trees[t], path, options)]
        frontier = dict.fromkeys((t, path[-1]) for t, path in moving if not trees[t]["count"][path[-1]])
        requests = [_request(trees[t], t, node, options, texts[t]) for t, node in frontier]
        tokens += _expand(trees, requests, sample, evaluate, key)
        for t, path in moving:
            child = trees[t].select(path[-1], c_puct=options.c_puct, virtual_loss=options.virtual_loss)
            trees[t]["pending"][child] += 1
            path.append(child)
    for t, path in paths:
        for node in path[1:]:
            trees[t]["pending"][node] -= 1
        trees[t].backup(path)
    return tokens


def _ended(tree: Tree, path: list[int], options: SearchOptions) -> bool:
    limit = options.depth_limit + options.force_end
    return bool(tree["terminal"][path[-1]]) or len(path) > limit


def _request(tree: Tree, t: int, node: int, options: SearchOptions, text: str) -> Request:
    depth = int(tree["depth"][node] - tree["depth"][tree.root])
    last = options.force_end and depth == options.depth_limit
    breadth = options.root_breadth if node == tree.root and options.root_breadth else options.breadth
    return Request(
        tree=t,
        node=node,
        prefix=tree.prefix(node),
        text=text + "".join(tree.texts[step] for step in tree.path(node)),
        breadth=1 if last else breadth,
        seed=tree.node_seed(node),
        depth=depth,
        last=last,
    )


def _expand(
    trees: Sequence[Tree], requests: Sequence[Request], sample: Sampler, evaluate: Evaluator, key: Key
) -> int:
    if not requests:
        return 0
    answers = sample(requests)
    if len(answers) != len(requests):
        raise CodealignError(
            f"the sampler was asked for {len(requests)} nodes and answered for {len(answers)}"
        )
    for request, steps in zip(requests, answers, strict=True):
        if not 1 <= len(steps) <= request.breadth:
            raise CodealignError(
                f"the sampler gave {len(steps)} steps below node {request.node} of tree {request.tree}, "
                f"asked for 1 to {request.breadth}"
            )
    merged = [merge_steps(r.text, steps, key) for r, steps in zip(requests, answers, strict=True)]
    candidates = [
        Candidate(r.tree, r.prefix, r.text, step, *_parent(trees[r.tree], r.node))
        for r, steps in zip(requests, merged, strict=True)
        for step in steps
        if step.reward is None
    ]
    rewards = iter(_values(evaluate, candidates))
    for request, steps in zip(requests, merged, strict=True):
        valued = [step if step.reward is not None else replace(step, reward=next(rewards)) for step in steps]
        trees[request.tree].expand(request.node, valued)
    return sum(len(step.tokens) for steps in answers for step in steps)


def value_unknown(trees: Sequence[Tree], evaluate: Evaluator, texts: Sequence[str]) -> int:
    """Asks again for every node that has no R yet, in one call; gives how many are left without."""
    unknown = [(t, int(node)) for t, tree in enumerate(trees) for node in (~tree["known"]).nonzero()[0]]
    candidates = []
    for t, node in unknown:
        tree, parent = trees[t], int(trees[t]["parent"][node])
        before = texts[t] + "".join(tree.texts[step] for step in tree.path(parent))
        step = Step(
            tree.tokens[node], float(tree["logp"][node]), tree.texts[node], bool(tree["terminal"][node])
        )
        candidates.append(Candidate(t, tree.prefix(parent), before, step, *_parent(tree, parent)))
    left = 0
    for (t, node), reward in zip(unknown, _values(evaluate, candidates), strict=True):
        if reward is None:
            left += 1
        else:
            trees[t].set_reward(node, reward)
    return left


def _parent(tree: Tree, node: int) -> tuple[int, float]:
    return int(tree["depth"][node]), tree.state_reward(node)


def _values(evaluate: Evaluator, candidates: Sequence[Candidate]) -> Sequence[float | None]:
    if not candidates:
        return []
    rewards = evaluate(candidates)
    if len(rewards) != len(candidates):
        raise CodealignError(f"the evaluator was asked for {len(candidates)} values and gave {len(rewards)}")
    return rewards
