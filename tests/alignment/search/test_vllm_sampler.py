"""Steps by vLLM: a stand-in for the engine draws with a small model; where vLLM is installed, it does."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.search.duplicates import by_tokens
from alignment.search.lockstep import SearchOptions, search
from alignment.search.sampler import HFSampler, StepSampling
from alignment.search.steps import split_lines, split_statements
from alignment.search.storage import equal
from alignment.search.tree import Tree
from alignment.search.vllm_sampler import VLLMStepSampler, open_sampler
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.alignment.search import sums
from tests.alignment.search.test_sampler import PROMPTS, model, request, sampler, value

installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")


@dataclass
class Asked:
    """A request on its way: what was asked, and what was drawn so far."""

    ids: tuple[int, ...]
    how: Any
    chance: torch.Generator
    hit: int
    tokens: list[int] = field(default_factory=list)


class Engine:
    """Draws as vLLM does: every step a token of each request, until its end, its limit, or an abort."""

    def __init__(self) -> None:
        self.llm_engine = self
        self.asked: dict[str, Asked] = {}
        self.going: dict[str, Asked] = {}
        self.cached: set[tuple[int, ...]] = set()
        self.steps = 0

    def add_request(self, name: str, prompt: Any, how: Any) -> None:
        assert name not in self.asked and prompt["type"] == "token" and not how.detokenize
        ids = tuple(prompt["prompt_token_ids"])
        hit = len(ids) - 1 if ids in self.cached else 0
        self.cached.add(ids)
        chance = torch.Generator().manual_seed(getattr(how, "seed", 0))
        self.asked[name] = self.going[name] = Asked(ids, how, chance, hit)

    def has_unfinished_requests(self) -> bool:
        return bool(self.going)

    def abort_request(self, names: list[str]) -> None:
        for name in names:
            self.going.pop(name, None)

    def step(self) -> list[Any]:
        found = []
        self.steps += 1
        for name, one in list(self.going.items()):
            token, logprob = self._next(one)
            ended = token in one.how.stop_token_ids or len(one.tokens) == one.how.max_tokens
            if ended:
                del self.going[name]
            delta = SimpleNamespace(token_ids=[token], logprobs=[{token: SimpleNamespace(logprob=logprob)}])
            found.append(
                SimpleNamespace(request_id=name, outputs=[delta], finished=ended, num_cached_tokens=one.hit)
            )
        return found[::-1]  # in no order that was promised

    def _next(self, one: Asked) -> tuple[int, float]:
        with torch.no_grad():
            scores = model()(torch.tensor([[*one.ids, *one.tokens]])).logits[0, -1]
        token = int(scores.argmax())
        if one.how.temperature:
            shares = (scores / one.how.temperature).softmax(-1)
            token = int(torch.multinomial(shares, 1, generator=one.chance))
        one.tokens.append(token)
        return token, float(scores.log_softmax(-1)[token])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    params = ModuleType("vllm.sampling_params")
    params.RequestOutputKind = SimpleNamespace(DELTA="delta")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", params)
    return Engine()


def beside(engine: Engine, like: HFSampler, window: int | None = None) -> VLLMStepSampler:
    """A sampler over the engine that is told what the other one is told."""
    return VLLMStepSampler(engine, tiny.tokenizer(), like.steps.ends, like.sampling, window=window)


@pytest.mark.parametrize("splitter", [split_lines, split_statements])
@pytest.mark.parametrize("options", [{}, {"stop": ("e",)}, {"trigger": ""}, {"step_tokens": 3}])
def test_greedy_steps_are_those_of_the_sampler_that_asks_after_every_token(
    engine: Engine, splitter: Any, options: dict[str, Any]
) -> None:
    like = sampler(splitter, temperature=0.0, **options)
    requests = [request(text, breadth=1, last=last) for text in PROMPTS for last in (False, True)]
    for one, other in zip(beside(engine, like)(requests), like(requests), strict=True):
        (step,), (expected,) = one, other
        assert (step.tokens, step.text, step.terminal) == (expected.tokens, expected.text, expected.terminal)
        assert step.logp == pytest.approx(expected.logp, abs=1e-8)
        assert step.cost == expected.cost, "nothing is drawn for longer than it has to be"


def test_a_child_is_asked_for_once_and_leaves_when_its_step_is_over(engine: Engine) -> None:
    draw = beside(engine, sampler(split_lines, step_tokens=25))
    requests = [request(breadth=6), request(PROMPTS[1], seed=8)]
    children = draw(requests)
    asked = list(engine.asked.values())
    assert len(asked) == 9 and not engine.going
    assert len({one.how.seed for one in asked}) == 9
    assert [len(one.tokens) for one in asked] == [step.cost for family in children for step in family]
    short = [one for one in asked if len(one.tokens) < 25 and one.tokens[-1] not in draw.steps.ends]
    assert short, "no child left before its limit: the test shows nothing"
    assert draw.sampled == sum(len(one.tokens) for one in asked)
    assert draw.reused == 5 * (len(requests[0].prefix) - 1) + 2 * (len(requests[1].prefix) - 1)
    assert draw.reused + draw.computed == sum(len(one.ids) for one in asked)
    again = beside(Engine(), sampler(split_lines, step_tokens=25))([request(PROMPTS[1], seed=8)])
    assert again[0] == children[1], "what is asked for beside it makes no difference"


def grown(draw: Any, parts: list[list[int]], evaluate: Any = value) -> list[Tree]:
    trees = [Tree(tuple(tiny.tokenizer().encode(text)), seed=i) for i, text in enumerate(PROMPTS)]
    for part in parts:
        texts = [PROMPTS[i] for i in part]
        options = SearchOptions(iterations=5, breadth=3, walkers=2)
        search([trees[i] for i in part], draw, evaluate, options, key=by_tokens, texts=texts)
    return trees


def alike(some: list[Tree], others: list[Tree]) -> bool:
    return all(equal(one, other) for one, other in zip(some, others, strict=True))


def test_trees_that_go_on_while_others_are_drawn_are_those_of_one_after_the_other(engine: Engine) -> None:
    like = sampler(split_lines, step_tokens=6)
    every = [list(range(len(PROMPTS)))]
    together = grown(beside(engine, like), every)
    assert not engine.going
    alone, waiting = Engine(), Engine()
    assert alike(together, grown(beside(alone, like), [[i] for i in range(len(PROMPTS))]))
    held = beside(waiting, like)
    assert alike(together, grown(lambda requests: held(requests), every))
    steps = [one.steps for one in (engine, waiting, alone)]
    assert steps == sorted(steps) and len(set(steps)) == 3, "each way takes more steps of the engine"


def test_an_evaluator_may_draw_with_the_engine_of_its_search(engine: Engine) -> None:
    like = sampler(split_lines, step_tokens=6)
    draw, drawn = beside(engine, like), []

    def drawing(candidates: Any) -> list[float | None]:
        (steps,) = draw([request(seed=5)])
        drawn.append(steps)
        return list(value(candidates))

    every = [list(range(len(PROMPTS)))]
    assert alike(grown(draw, every, drawing), grown(beside(Engine(), like), every))
    assert drawn == [beside(Engine(), like)([request(seed=5)])[0]] * len(drawn) and len(drawn) > 3

    def broken(candidates: Any) -> list[float | None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        grown(draw, every, broken)
    assert not engine.going, "what was on the way is given up"


def test_nothing_is_left_in_the_engine_where_a_call_fails(engine: Engine) -> None:
    draw = beside(engine, sampler())

    def broken(*given: Any) -> int:
        raise ZeroDivisionError

    draw.steps.kept = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        draw([request()])
    assert engine.asked and not engine.going
    lost = Engine()
    lost.has_unfinished_requests = lambda: False  # type: ignore[method-assign]
    with pytest.raises(CodealignError, match="vLLM dropped 3 children"):
        beside(lost, sampler())([request()])
    assert not lost.going


def test_an_end_that_only_the_engine_knows_ends_the_step(engine: Engine) -> None:
    step = engine.step

    def ends() -> list[Any]:
        return [SimpleNamespace(**{**vars(output), "finished": True}) for output in step()]

    engine.step = ends  # type: ignore[method-assign]
    steps = beside(engine, sampler())([request()])[0]
    assert [len(step.tokens) for step in steps] == [1, 1, 1]


def test_log_probabilities_of_kept_tokens_are_those_of_temperature_1(engine: Engine) -> None:
    for step in beside(engine, sampler(temperature=0.6))([request(breadth=4)])[0]:
        prefix = request().prefix
        with torch.no_grad():
            scores = model()(torch.tensor([[*prefix, *step.tokens]])).logits[0].log_softmax(-1)
        at = range(len(prefix) - 1, len(prefix) + len(step.tokens) - 1)
        expected = sum(float(scores[i, token]) for i, token in zip(at, step.tokens, strict=True))
        assert step.logp == pytest.approx(expected, abs=2e-9)


def test_what_cannot_be_drawn_is_refused(engine: Engine) -> None:
    with pytest.raises(CodealignError, match="no token"):
        beside(engine, sampler())([request(prefix=())])
    with pytest.raises(CodealignError, match="does not fit the model's window of 20"):
        beside(engine, sampler(), window=20)([request()])

    def refuse(*given: Any, **options: Any) -> None:
        raise ValueError("prompt too long")

    engine.add_request = refuse  # type: ignore[method-assign]
    with pytest.raises(CodealignError, match="vLLM refuses a prefix: prompt too long"):
        beside(engine, sampler())([request()])


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_message_says_what_to_do() -> None:
    with pytest.raises(CodealignError, match=r"sampling\.use_vllm needs vLLM"):
        open_sampler("folder", StepSampling(split_lines))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": {"use_vllm": True, "rows": 8}, "device": None}, "rows does nothing with use_vllm"),
        ({"sampling": {"vllm_engine": {"seed": 1}}}, "vllm_engine does nothing without use_vllm"),
        ({"sampling": {"use_vllm": True}}, "device does nothing with sampling.use_vllm"),
        ({"sampling": {"use_vllm": True}, "device": None, "value": {"kind": "self"}}, "value.kind 'self'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        sums.config(tmp_path, "model", **change)


@installed
@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_vllm_searches_as_the_other_sampler_and_goes_through_two_rounds(tmp_path: Path) -> None:
    from alignment.mcts_dpo import MctsDpoConfig, run
    from alignment.resources import model_path, recipe_path
    from codegen_eval.config import load_config
    from codegen_eval.generation.hf import load_model

    path = str(model_path("tiny-coder"))
    sampling = StepSampling(split_statements, step_tokens=24, answer_tokens=48, temperature=0.0)
    options = {"enforce_eager": True, "max_model_len": 256, "block_size": 32}
    by_vllm = open_sampler(path, sampling, dtype="float32", engine=options)
    by_us = HFSampler(*load_model(path, dtype="float32", device="cpu"), sampling)
    texts = [f"def add_{word}(first, second):\n    return " for word in ("one", "two", "six")]
    grown = []
    for draw in (by_us, by_vllm):
        trees = [Tree(tuple(by_us.steps.tokenizer.encode(text))) for text in texts]
        search(trees, draw, value, SearchOptions(4, 1, depth_limit=3), key=by_tokens, texts=texts)
        grown.append(trees)
    for one, other in zip(*grown, strict=True):
        assert one.tokens == other.tokens and one.texts == other.texts and one["visits"] == other["visits"]
        assert one["logp"] == pytest.approx(other["logp"], abs=1e-4)
    assert by_vllm.computed > 0
    del by_vllm
    steps = {"step_tokens": 24, "answer_tokens": 48, "use_vllm": True, "vllm_engine": options}
    changes = {"out": tmp_path / "run", "model": path, "rounds": 2, "prompts": 8, "sampling": steps}
    changes |= {"workers": 1, "dtype": "float32"}
    job = load_config(recipe_path("tiny-coder/mcts_dpo.yaml"), MctsDpoConfig, changes)
    found = run(job, lambda model, pairs, out, seed: model).read_json("results.json")
    assert len(found["rounds"]) == 2 and all(row["pairs"] > 0 for row in found["rounds"])
