"""Steps of a real model: token ids as sampled, ends where they belong, one by one the same as in a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from alignment.search.duplicates import by_tokens
from alignment.search.lockstep import Candidate, Request, SearchOptions, search
from alignment.search.sampler import HFSampler, StepSampling, child_uniforms
from alignment.search.steps import split_lines, split_statements
from alignment.search.storage import equal, from_json, to_json
from alignment.search.tree import Tree
from codegen_eval.errors import CodealignError
from tests.alignment import tiny

PROMPTS = (
    'def f(xs):\n    """Add."""\n',
    "def g(x):\n",
    'def longer(values, k):\n    """Return k."""\n',
    "x",
)


@cache
def model() -> Any:
    torch.set_num_threads(1)
    found = tiny.model(3).double()
    # Eager attention has its softmax in float32, whatever the model's format is.
    found.set_attn_implementation("sdpa")
    return found


def sampler(splitter: Callable[[str], list[int]] = split_lines, **options: Any) -> HFSampler:
    kinds = {k: options.pop(k) for k in ("cache_mb", "rows") if k in options}
    sampling = StepSampling(splitter, **{"step_tokens": 12, "answer_tokens": 30, **options})
    return HFSampler(model(), tiny.tokenizer(), sampling, **kinds)


def request(text: str = PROMPTS[0], **changes: Any) -> Request:
    prefix = tuple(tiny.tokenizer().encode(text))
    given = {"tree": 0, "node": 0, "prefix": prefix, "text": text, "breadth": 3, "seed": 7, "depth": 0}
    return Request(**{**given, "last": False, **changes})


def value(candidates: Any) -> list[float]:
    return [float(sum(c.step.tokens) % 3) - 1 if c.step.terminal else 0.0 for c in candidates]


def grown(**options: Any) -> tuple[list[Tree], HFSampler]:
    trees = [Tree(tuple(tiny.tokenizer().encode(text)), seed=i) for i, text in enumerate(PROMPTS)]
    draw = sampler(**options)
    search(trees, draw, value, OPTIONS, key=by_tokens, texts=PROMPTS, most=draw.most)
    return trees, draw


OPTIONS = SearchOptions(iterations=5, breadth=2, root_breadth=3, depth_limit=4, walkers=2)


def test_one_by_one_gives_the_same_trees_to_the_last_bit() -> None:
    together, draw = grown()
    assert draw.sampled == sum(tree.sampled for tree in together) and draw.reused > 0
    for i, text in enumerate(PROMPTS):
        alone = Tree(tuple(tiny.tokenizer().encode(text)), seed=i)
        search([alone], sampler(), value, OPTIONS, key=by_tokens, texts=[text])
        assert equal(alone, together[i])
    for others in ({"cache_mb": 0}, {"cache_mb": 0.1}, {"rows": 3}):
        trees, draw = grown(**others)
        assert all(equal(one, other) for one, other in zip(trees, together, strict=True)), others
        assert draw.reused > 0 or others == {"cache_mb": 0}
        assert draw.store.bytes <= draw.store.limit
    assert all(equal(from_json(to_json(tree)), tree) for tree in together)


def test_log_probabilities_are_those_of_the_tokens_under_the_model() -> None:
    trees, _ = grown(temperature=0.7, top_p=0.9)
    checked = 0
    for tree in trees:
        for node in range(1, len(tree)):
            before, step = tree.prefix(int(tree["parent"][node])), tree.tokens[node]
            with torch.no_grad():
                scores = model()(torch.tensor([[*before, *step]])).logits[0].log_softmax(-1)
            at = range(len(before) - 1, len(before) + len(step) - 1)
            expected = sum(float(scores[i, token]) for i, token in zip(at, step, strict=True))
            assert tree["logp"][node] == pytest.approx(expected, abs=2e-9)
            checked += 1
    assert checked > 20


def test_tokens_are_drawn_by_the_models_distribution() -> None:
    wide = request(breadth=4000)
    steps = sampler(step_tokens=1, rows=4000)([wide])[0]
    with torch.no_grad():
        expected = model()(torch.tensor([wide.prefix])).logits[0, -1].softmax(-1).numpy()
    found = np.bincount([step.tokens[0] for step in steps], minlength=len(expected)) / 4000
    error = np.sqrt(expected * (1 - expected) / 4000)
    assert (np.abs(found - expected) < 5 * error + 1e-3).all()


def test_children_depend_on_seed_and_place_alone() -> None:
    few, many = (child_uniforms(request(breadth=b), 8) for b in (2, 3))
    assert (few == many[:2]).all() and (few[0] != few[1]).all()
    draw = sampler()
    first = draw([request(), request(PROMPTS[1], seed=8)])
    assert draw([request()])[0] == first[0] and draw([request(seed=9)])[0] != first[0]


class Script:
    """A model's stand-in for `StepEnds`: decides nothing, but lets tokens be told off one by one."""

    def __init__(self, splitter: Any, **options: Any) -> None:
        self.draw = sampler(splitter, **options)

    def step(self, text: str, given: Request, *, end: bool = False) -> tuple[str, bool, int]:
        """The step when the model would go on to write `text`: its text, whether it ends, tokens sampled."""
        tokens = tiny.tokenizer().encode(text) + ([tiny.tokenizer().eos_token_id] if end else [])
        for count in range(1, len(tokens) + 1):
            kept = self.draw.steps.kept(given, tokens[:count])
            if kept:
                step = self.draw.steps.step(given, tokens[:kept], [-1.0] * kept, count)
                assert step.tokens == tuple(tokens[:kept]) and step.logp == -kept
                return step.text, step.terminal, count - kept  # a token may hold a line break and blanks
        raise AssertionError("never over")


def test_a_statement_ends_when_the_next_one_begins_and_what_was_drawn_of_that_is_cut_off() -> None:
    code = "    if xs:\n        return 1\n    else:\n        return 2\n    return 3\n"
    text, terminal, surplus = Script(split_statements, step_tokens=60, answer_tokens=99).step(code, request())
    assert text.rstrip(" ") == code[: code.index("    return 3")] and not terminal and surplus >= 1
    script = Script(split_statements, step_tokens=60, answer_tokens=99)
    assert script.step("    return 3\n", request(), end=True) == ("    return 3\n", True, 0)
    assert script.step("", request(), end=True) == ("", True, 0), "an answer that ends at once"


def test_a_step_is_bounded_and_the_last_one_runs_to_the_end() -> None:
    code = "    a = 1\n    b = 2\n    c = 3\n"
    given = request()
    text, terminal, surplus = Script(split_lines).step(code, given)
    assert (text.rstrip(" "), terminal, surplus) == ("    a = 1\n", False, 0)
    never = Script(lambda text: [], step_tokens=5).step(code, given)
    assert not never[1] and len(tiny.tokenizer().encode(never[0])) == 5, "a splitter that never splits"
    whole = Script(split_lines, answer_tokens=60)
    assert whole.step(code, request(last=True), end=True) == (code, True, 0)
    assert Script(split_lines, answer_tokens=8).step(code, request(last=True))[1], "too long: it ends"
    assert Script(split_lines, answer_tokens=8, step_tokens=8).step("    a = 1 + 1 + 1 + 1", request())[1]
    assert Script(split_lines, answer_tokens=8).step(code, request(answered=7))[1]


def test_a_stop_text_ends_the_answer_and_is_no_part_of_its_text() -> None:
    script = Script(split_lines, stop=("\ndef", "# end"), step_tokens=40)
    assert script.step("    a = 1\n", request())[1] is False
    text, terminal, _ = script.step("    return x # end of it\n", request())
    assert (text, terminal) == ("    return x ", True)


def test_a_splitter_may_end_steps_anywhere_without_a_trigger() -> None:
    def each(text: str) -> list[int]:
        return list(range(len(PROMPTS[1]) + 2, len(text) + 1, 2))

    draw = sampler(each, trigger="", answer_tokens=9)
    steps = draw([request(PROMPTS[1], breadth=20)])[0]
    assert all(step.terminal or len(step.text) >= 2 for step in steps)
    whole = [step for step in steps if "\ufffd" not in step.text]  # a token may be a part of a character
    assert len(whole) > 10 and max(len(step.tokens) for step in whole) <= 2


def test_a_splitter_that_never_splits_searches_in_bounded_steps() -> None:
    tree, draw = Tree((5, 6)), sampler(lambda text: [], step_tokens=4, answer_tokens=10)
    search([tree], draw, value, SearchOptions(iterations=6, depth_limit=9), key=by_tokens, most=draw.most)
    assert max(map(len, tree.tokens)) == 4 and max(tree["depth"]) == 3
    assert all(ended for ended, depth in zip(tree["terminal"], tree["depth"], strict=True) if depth == 3)


def test_a_budget_is_never_exceeded_and_does_not_depend_on_other_trees() -> None:
    options = SearchOptions(iterations=40, breadth=2, depth_limit=4, tokens=80)
    texts = list(PROMPTS)
    trees = [Tree(tuple(tiny.tokenizer().encode(text)), seed=i) for i, text in enumerate(texts)]
    draw = sampler()
    spent = search(trees, draw, value, options, key=by_tokens, texts=texts, most=draw.most)
    assert spent == draw.sampled == sum(tree.sampled for tree in trees)
    assert all(tree.sampled <= 80 for tree in trees)
    cut = [tree for tree in trees if tree["visits"][0] < 40]
    assert cut and all(tree.sampled > 80 - 2 * 12 for tree in cut), "stopped as late as it may"
    alone = Tree(trees[2].prompt, seed=2)
    search([alone], draw, value, options, key=by_tokens, texts=[texts[2]], most=draw.most)
    assert equal(alone, trees[2])
    with pytest.raises(CodealignError, match=r"23 tokens a tree is less than one expansion.*24"):
        search([Tree((1, 2))], draw, value, SearchOptions(tokens=23), key=by_tokens, most=draw.most)
    with pytest.raises(CodealignError, match="needs `most`"):
        search([Tree((1, 2))], draw, value, SearchOptions(tokens=23), key=by_tokens)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(CodealignError, match="no token"):
        sampler()([request(prefix=())])
    with pytest.raises(CodealignError, match="window of 512"):
        sampler(answer_tokens=600, step_tokens=600)([request()])
    for options, message in (
        ({"step_tokens": 0}, "step_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"stop": ("",)}, "a stop text is empty"),
        ({"cache_mb": -1}, "cache_mb -1"),
        ({"rows": 0}, "rows 0"),
    ):
        with pytest.raises(CodealignError, match=message):
            sampler(**options)  # type: ignore[arg-type]


def test_an_evaluator_is_told_how_much_of_the_prefix_is_answer() -> None:
    seen: list[Candidate] = []

    def note(candidates: Any) -> list[float]:
        seen.extend(candidates)
        return value(candidates)

    tree = Tree(tuple(tiny.tokenizer().encode(PROMPTS[0])))
    search([tree], sampler(), note, SearchOptions(iterations=3), key=by_tokens, texts=[PROMPTS[0]])
    assert {c.answered for c in seen} > {0}
    assert all(c.prefix[: len(c.prefix) - c.answered] == tree.prompt for c in seen)
