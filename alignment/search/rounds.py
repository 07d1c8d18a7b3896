"""One round of MCTS-DPO: prompts -> trees -> pairs; trees are stored batch by batch.

What is drawn comes from seeds of (run, round, prompt), batches are fixed by the settings, and files
appear whole: a round that was killed anywhere goes on with the same trees and ends with the same pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alignment.search.lockstep import Candidate, Evaluator, Request, SearchOptions, search, value_unknown
from alignment.search.pickers import PairPicker, StepPair
from alignment.search.sampler import StepSampler
from alignment.search.storage import from_json, to_json
from alignment.search.tasks import TaskSet
from alignment.search.tree import Tree
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir, read_jsonl

Row = dict[str, Any]
_ASKED_AGAIN = 2  # how often values are asked for that were still missing when a search ended


@dataclass(frozen=True, slots=True)
class Growth:
    """How the trees of a round grow.

    Attributes:
        search: Options of each search.
        moves: How often a tree's root moves on and is searched from again.
        answers: Instead of a search, so many whole answers of each prompt; 0 for a search.
        tree: Arguments of `Tree` (gamma, weights, length_penalty).
        batch: Prompts searched in lockstep.
        tokens: Most tokens of a round; None for no limit.
    """

    search: SearchOptions
    moves: int = 0
    answers: int = 0
    tree: Mapping[str, Any] | None = None
    batch: int = 32
    tokens: int | None = None

    def bound(self, answer_tokens: int) -> int | None:
        """Most tokens of one tree, as far as they are bounded."""
        return self.answers * answer_tokens if self.answers else self.search.tokens

    def affordable(self, answer_tokens: int, spent: int, left: int) -> int:
        """How many prompts the next batch may have.

        Args:
            answer_tokens: Most tokens of an answer.
            spent: Tokens of the round so far.
            left: Prompts that are left.

        Raises:
            CodealignError: For a budget that does not allow one tree, or trees without a bound.
        """
        size = min(self.batch, left)
        if self.tokens is None:
            return size
        bound = self.bound(answer_tokens)
        if bound is None:
            raise CodealignError(
                "a budget of tokens a round needs one a tree as well: set search.tree_tokens"
            )
        if bound > self.tokens:
            raise CodealignError(
                f"a budget of {self.tokens} tokens a round is less than one tree may take ({bound}): raise "
                "it, or lower the tokens of a tree"
            )
        return min(size, max((self.tokens - spent) // bound, 0))


MakeValues = Callable[[StepSampler, Sequence[int], Sequence[Tree]], tuple[Evaluator, Callable[[int], int]]]
"""(sampler, numbers of the tasks, their trees) -> evaluator, and the tokens that it drew for each tree."""


def prompt_order(seed: int, number: int, total: int, count: int | None) -> list[int]:
    """The tasks of a round, drawn without return.

    Raises:
        CodealignError: For more prompts than there are.
    """
    if count is not None and count > total:
        raise CodealignError(f"prompts is {count}, but there are only {total} tasks")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, number)))
    return [int(i) for i in rng.permutation(total)[:count]]


def tree_seed(seed: int, number: int, task: int) -> int:
    """The seed of a task's tree in a round."""
    key = np.random.SeedSequence(seed, spawn_key=(4, number, task))
    return int(key.generate_state(1, np.uint64)[0])


def grow_round(
    run: RunDir,
    folder: str,
    order: Sequence[int],
    growth: Growth,
    tasks: TaskSet,
    policy: Callable[[], StepSampler],
    values: MakeValues,
    *,
    seed: int,
    number: int,
) -> list[Path]:
    """Grows, or takes up, the trees of a round; the files that hold them.

    Args:
        run: The run directory.
        folder: Of the round, in it.
        order: The tasks' numbers.
        growth: See `Growth`.
        tasks: All tasks.
        policy: Gives the sampler; called only if something is to be drawn.
        values: Makes the evaluators.
        seed: Of the run.
        number: Of the round.

    Raises:
        CodealignError: For a budget that does not allow one tree.
    """
    files: list[Path] = []
    position = spent = 0
    sampler: StepSampler | None = None
    while position < len(order):
        name = f"{folder}/trees-{len(files):04d}.jsonl"
        if not (run.path / name).exists():
            sampler = sampler or policy()
            size = growth.affordable(sampler.sampling.answer_tokens, spent, len(order) - position)
            part = order[position : position + size]
            rows = grow(part, growth, tasks, sampler, values, seed=seed, number=number) if part else []
            run.write_text(name, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))
        rows = list(read_jsonl(run.path / name))
        files.append(run.path / name)
        if not rows:
            break
        position += len(rows)
        spent += sum(row["sampled"] + row["value_tokens"] for row in rows)
    return files


def grow(
    part: Sequence[int],
    growth: Growth,
    tasks: TaskSet,
    sampler: StepSampler,
    values: MakeValues,
    *,
    seed: int,
    number: int,
) -> list[Row]:
    """The trees of some tasks, grown together, as rows of a file."""
    encode = sampler.steps.tokenizer.encode
    trees = [
        Tree(tuple(encode(tasks.texts[i])), seed=tree_seed(seed, number, i), **(growth.tree or {}))
        for i in part
    ]
    texts = [tasks.texts[i] for i in part]
    evaluate, drawn = values(sampler, part, trees)
    if growth.answers:
        grow_answers(trees, growth.answers, sampler, evaluate, tasks, texts)
    else:
        grow_steps(trees, growth, sampler, evaluate, tasks, texts)
    for _ in range(_ASKED_AGAIN):
        if not value_unknown(trees, evaluate, texts):
            break
    return [
        {
            "task_id": tasks.names[i],
            "prompt": tasks.texts[i],
            "sampled": tree.sampled,
            "value_tokens": drawn(t),
            "tree": to_json(tree),
        }
        for t, (i, tree) in enumerate(zip(part, trees, strict=True))
    ]


def grow_steps(
    trees: Sequence[Tree],
    growth: Growth,
    sampler: StepSampler,
    evaluate: Evaluator,
    tasks: TaskSet,
    texts: Sequence[str],
) -> None:
    """Searches from each root, moves on and searches again, until answers end or moves are spent."""
    for move in range(growth.moves + 1):
        active = [t for t, tree in enumerate(trees) if not tree["terminal"][tree.root]]
        search(
            [trees[t] for t in active],
            sampler,
            _renumbered(evaluate, active),
            growth.search,
            key=tasks.key,
            texts=[texts[t] for t in active],
            most=sampler.most,
        )
        if move < growth.moves:
            for t in active:
                if trees[t].children(trees[t].root):
                    trees[t].move(trees[t].best_move())


def _renumbered(evaluate: Evaluator, numbers: Sequence[int]) -> Evaluator:
    """The evaluator of all trees for some of them."""

    def inner(candidates: Sequence[Candidate]) -> Sequence[float | None]:
        return evaluate([replace(c, tree=numbers[c.tree]) for c in candidates])

    return inner


def grow_answers(
    trees: Sequence[Tree],
    count: int,
    sampler: StepSampler,
    evaluate: Evaluator,
    tasks: TaskSet,
    texts: Sequence[str],
) -> None:
    """Whole answers as trees of depth one: what instance-level preference data are made of."""

    def whole(requests: Sequence[Request]) -> Any:
        return sampler([replace(request, last=True) for request in requests])

    options = SearchOptions(iterations=1, breadth=count, depth_limit=1)
    search(trees, whole, evaluate, options, key=tasks.key, texts=texts)


def answer_pairs(tree: Tree) -> list[StepPair]:
    """Whole answers of one prompt one to one: the best with the worst, the next with the next, while they
    differ in value; no smoothing. An answer that was drawn twice is there twice, a pair only once.
    """
    known = [child for child in tree.children(0) if tree["known"][child]]
    drawn = [child for child in known for _ in range(tree["copies"][child])]
    ranked = sorted(drawn, key=lambda child: -tree["reward"][child])
    pairs = []
    for better, worse in zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False):
        gap = tree["reward"][better] - tree["reward"][worse]
        if gap > 0:
            pairs.append(StepPair(0, better, worse, 0.0, gap))
    return list(dict.fromkeys(pairs))


def pair_rows(
    files: Sequence[Path], picker: PairPicker | None, *, smoothing: bool = True, per_tree: int | None = None
) -> Iterator[Row]:
    """Pairs out of stored trees, as the pair trainer takes them.

    Rows hold token ids as they were sampled: the prompt is the question with all steps before, an end token
    is there only where the step ended the answer. `confidence` is 1 - alpha.

    Args:
        files: Of `grow_round`.
        picker: Which pairs of a tree; None for whole answers.
        smoothing: Whether alpha counts; otherwise every confidence is 1.
        per_tree: Most pairs of a tree, those with the largest gap in Q; None for all.
    """
    for row in (row for file in files for row in read_jsonl(file)):
        tree = from_json(row["tree"])
        pairs = answer_pairs(tree) if picker is None else picker.pick(tree)
        if per_tree is not None and len(pairs) > per_tree:
            best = sorted(pairs, key=lambda pair: -pair.q_gap)[:per_tree]
            pairs = [pair for pair in pairs if pair in best]
        for pair in pairs:
            before = row["prompt"] + "".join(tree.texts[node] for node in tree.path(pair.parent))
            yield {
                "task_id": row["task_id"],
                "kind": "step" if picker is not None else "answer",
                "prompt": before,
                "chosen": tree.texts[pair.chosen],
                "rejected": tree.texts[pair.rejected],
                "prompt_ids": list(tree.prefix(pair.parent)),
                "chosen_ids": list(tree.tokens[pair.chosen]),
                "rejected_ids": list(tree.tokens[pair.rejected]),
                "confidence": 1.0 - pair.alpha if smoothing else 1.0,
                "q_gap": pair.q_gap,
                "nodes": [pair.parent, pair.chosen, pair.rejected],
                "visits": [tree["visits"][node] for node in (pair.chosen, pair.rejected)],
            }


def summary(files: Sequence[Path], pairs: int) -> Row:
    """Figures of a round: trees, nodes, tokens, pairs, and the mean value of the answers in the trees."""
    trees = nodes = tokens = unknown = 0
    ended: list[float] = []
    for row in (row for file in files for row in read_jsonl(file)):
        tree = from_json(row["tree"])
        trees, nodes = trees + 1, nodes + len(tree)
        tokens += row["sampled"] + row["value_tokens"]
        unknown += tree["known"].count(False)
        for node in range(len(tree)):
            if tree["terminal"][node] and tree["known"][node]:
                ended += [tree["reward"][node]] * tree["copies"][node]
    return {
        "trees": trees,
        "nodes": nodes,
        "tokens": tokens,
        "pairs": pairs,
        "unknown": unknown,
        "mean_reward": float(np.mean(ended)) if ended else None,
    }
