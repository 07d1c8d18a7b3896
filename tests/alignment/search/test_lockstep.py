"""Search over many prompts at once: the same trees as one by one, for any number of walkers."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from alignment.search.duplicates import by_text, by_tokens
from alignment.search.lockstep import Candidate, Request, SearchOptions, search, value_unknown
from alignment.search.storage import equal
from alignment.search.tree import Step, Tree
from codegen_eval.errors import CodealignError
from tests.alignment.search.made_up import evaluate, sample, value

PROMPTS = 7


def trees() -> list[Tree]:
    return [Tree((prompt,), seed=100 + prompt) for prompt in range(PROMPTS)]


@pytest.mark.parametrize("walkers", [1, 4])
def test_a_batch_gives_the_trees_of_one_prompt_after_the_other(walkers: int) -> None:
    options = SearchOptions(iterations=10, breadth=3, root_breadth=4, depth_limit=4, walkers=walkers)
    texts = [f"prompt {i} " for i in range(PROMPTS)]
    together, alone = trees(), trees()
    for _ in range(2):
        spent = search(together, sample, evaluate, options, key=by_text, texts=texts)
        single = [
            search([tree], sample, evaluate, options, key=by_text, texts=[text])
            for tree, text in zip(alone, texts, strict=True)
        ]
        assert spent == sum(single)
        assert all(equal(one, other) for one, other in zip(together, alone, strict=True))
        for tree in (*together, *alone):
            if tree.children(tree.root):
                tree.move(tree.best_move())
    assert any(len(tree.moves) == 3 for tree in together)


class Piecemeal:
    """A stream that hands out one request after the other, in no order."""

    def __init__(self) -> None:
        self.chance = random.Random(0)
        self.way: list[Request] = []
        self.dropped = 0

    def begin(self, requests: Sequence[Request]) -> None:
        self.way += requests

    def ended(self) -> list[tuple[Request, Sequence[Step]]]:
        request = self.way.pop(self.chance.randrange(len(self.way)))
        return [(request, sample([request])[0])]

    def drop(self) -> None:
        self.dropped += len(self.way)
        self.way = []


@pytest.mark.parametrize("walkers", [1, 4])
@pytest.mark.parametrize("tokens", [None, 30])
def test_a_stream_gives_the_trees_of_a_plain_sampler(walkers: int, tokens: int | None) -> None:
    options = SearchOptions(iterations=10, breadth=3, depth_limit=4, walkers=walkers, tokens=tokens)
    plain, streamed = trees(), trees()
    calls: list[int] = []

    def counting(candidates: Sequence[Candidate]) -> Sequence[float | None]:
        calls.append(len({candidate.tree for candidate in candidates}))
        return evaluate(candidates)

    stream = Piecemeal()
    most = (lambda request: 3 * request.breadth) if tokens else None
    spent = search(streamed, stream, counting, options, key=by_tokens, most=most)
    assert spent == search(plain, sample, evaluate, options, key=by_tokens, most=most)
    assert all(equal(one, other) for one, other in zip(streamed, plain, strict=True))
    assert not stream.way and not stream.dropped and min(calls) == 1 < PROMPTS

    def broken(candidates: Sequence[Candidate]) -> Sequence[float | None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        search(trees(), stream, broken, options, key=by_tokens, most=most)
    assert stream.dropped == PROMPTS - 1 and not stream.way


def test_the_sampler_is_asked_once_a_level_and_never_twice_for_a_node() -> None:
    calls: list[list[tuple[int, int]]] = []

    def counting(requests: Sequence[Request]) -> list[list[Step]]:
        calls.append([(request.tree, request.node) for request in requests])
        return sample(requests)

    many = trees()
    options = SearchOptions(iterations=8, breadth=2, depth_limit=3, walkers=8)
    search(many, counting, evaluate, options, key=by_tokens)
    asked = [node for call in calls for node in call]
    assert len(set(asked)) == len(asked)
    assert len(calls) <= 3, "one call a level of the single round"
    assert len(calls[0]) == PROMPTS
    for tree in many:
        assert tree["visits"][0] == 8 and not any(tree["pending"])


def test_the_depth_limit_counts_from_the_root_and_can_force_an_end() -> None:
    lasts: list[Request] = []

    def endless(requests: Sequence[Request]) -> list[list[Step]]:
        lasts.extend(request for request in requests if request.last)
        return [[Step((1 + i,), -1.0, "ab"[i], terminal=r.last) for i in range(r.breadth)] for r in requests]

    tree = Tree()
    search([tree], endless, evaluate, SearchOptions(iterations=4, depth_limit=2), key=by_text)
    assert max(tree["depth"]) == 2 and not any(tree["terminal"])
    tree = Tree()
    options = SearchOptions(iterations=4, depth_limit=2, force_end=True)
    search([tree], endless, evaluate, options, key=by_text)
    assert max(tree["depth"]) == 3 and lasts and all(request.breadth == 1 for request in lasts)
    assert tree["terminal"] == [depth == 3 for depth in tree["depth"]]


def test_equal_siblings_are_merged_and_counted() -> None:
    def same(requests: Sequence[Request]) -> list[list[Step]]:
        return [[Step((1,), -1.0, " a", True), Step((2,), -2.0, "a", True)] for _ in requests]

    tree = Tree()
    spent = search([tree], same, evaluate, SearchOptions(iterations=2), key=by_text)
    assert spent == 2, "merged samples were paid for"
    assert tree.tokens == [(), (1,)] and tree["copies"] == [1, 2]


def test_a_broken_verifier_prunes_nothing_and_is_asked_again() -> None:
    failures = 0

    def flaky(candidates: Sequence[Candidate]) -> list[float | None]:
        nonlocal failures
        failures += 1
        return [None if failures % 2 else value(candidate) for candidate in candidates]

    tree, steady = Tree(seed=5), Tree(seed=5)
    options = SearchOptions(iterations=1, breadth=3, depth_limit=1)
    search([tree], sample, flaky, options, key=by_text)
    search([steady], sample, evaluate, options, key=by_text)
    assert all(tree["known"]) and tree["reward"] == steady["reward"]

    never = Tree(seed=5)
    nothing = lambda candidates: [None] * len(candidates)  # noqa: E731
    search([never], sample, nothing, SearchOptions(iterations=6, breadth=3, depth_limit=3), key=by_text)
    assert never["visits"][0] == 6 and set(never["q"]) == {0.0}
    assert value_unknown([never], nothing, [""]) == len(never) - 1
    assert value_unknown([never], evaluate, [""]) == 0 and all(never["known"])


def test_what_the_sampler_values_itself_is_not_asked_for() -> None:
    def valued(requests: Sequence[Request]) -> list[list[Step]]:
        steps = [[Step((1,), -1.0, "a", True, reward=0.7), Step((2,), -1.0, "b", True)] for _ in requests]
        return steps

    tree, asked = Tree(), []

    def seen(candidates: Sequence[Candidate]) -> list[float | None]:
        asked.extend(candidate.step.text for candidate in candidates)
        return [0.2] * len(candidates)

    search([tree], valued, seen, SearchOptions(iterations=2), key=by_text)
    assert asked == ["b"] and tree["reward"] == [0.0, 0.7, 0.2]


def test_a_prompt_that_ends_at_once_and_an_empty_batch_do_no_harm() -> None:
    ended = Tree()
    ended["terminal"][0] = True
    assert search([ended], sample, evaluate, SearchOptions(iterations=3), key=by_text) == 0
    assert ended["visits"][0] == 3 and len(ended) == 1
    assert search([], sample, evaluate, SearchOptions(), key=by_text) == 0


def test_wrong_numbers_of_answers_are_refused() -> None:
    options = SearchOptions(iterations=1, breadth=2)
    for sampler, evaluator, message in (
        (lambda requests: [], evaluate, "asked for 1 nodes"),
        (lambda requests: [[] for _ in requests], evaluate, "gave 0 steps"),
        (lambda requests: [[Step((1,), -1.0)] * 3 for _ in requests], evaluate, "gave 3 steps"),
        (sample, lambda candidates: [], "gave 0"),
    ):
        with pytest.raises(CodealignError, match=message):
            search([Tree()], sampler, evaluator, options, key=by_text)  # type: ignore[arg-type]
    with pytest.raises(CodealignError, match="as many texts"):
        search([Tree()], sample, evaluate, options, key=by_text, texts=[])
    with pytest.raises(CodealignError, match="breadth is 0"):
        SearchOptions(breadth=0)
