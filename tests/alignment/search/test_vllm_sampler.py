"""Steps by vLLM: a stand-in for the engine draws with a small model; where vLLM is installed, it does."""

from __future__ import annotations

import sys
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
from alignment.search.tree import Tree
from alignment.search.vllm_sampler import VLLMStepSampler, open_sampler
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.alignment.search import sums
from tests.alignment.search.test_sampler import PROMPTS, model, request, sampler, value

installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")


class Engine:
    """Draws as vLLM does: a token at a time until an end token, a stop text or the most tokens."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], Any]] = []
        self.cached: set[tuple[int, ...]] = set()

    def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
        found = []
        for prompt, how in zip(prompts, settings, strict=True):
            ids = tuple(prompt["prompt_token_ids"])
            self.asked.append((ids, how))
            tokens, steps = self._draw(ids, how)
            one = SimpleNamespace(token_ids=tokens, logprobs=steps)
            hit = len(ids) - 1 if ids in self.cached else 0
            self.cached |= {ids, (*ids, *tokens)}
            found.append(SimpleNamespace(outputs=[one], num_cached_tokens=hit))
        return found

    def _draw(self, ids: tuple[int, ...], how: Any) -> tuple[list[int], list[Any]]:
        chance = torch.Generator().manual_seed(getattr(how, "seed", 0))
        tokens: list[int] = []
        steps = []
        while len(tokens) < how.max_tokens:
            with torch.no_grad():
                scores = model()(torch.tensor([[*ids, *tokens]])).logits[0, -1]
            token = int(scores.argmax())
            if how.temperature:
                shares = (scores / how.temperature).softmax(-1)
                token = int(torch.multinomial(shares, 1, generator=chance))
            tokens.append(token)
            steps.append({token: SimpleNamespace(logprob=float(scores.log_softmax(-1)[token]))})
            text = tiny.tokenizer().decode(tokens)
            if token in how.stop_token_ids or any(stop in text for stop in how.stop):
                break
        return tokens, steps


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    module = ModuleType("vllm")
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
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
        assert step.cost >= len(step.tokens)


def test_a_child_goes_on_from_its_own_tokens_with_a_seed_of_its_own(engine: Engine) -> None:
    draw = beside(engine, sampler(split_statements, step_tokens=25))
    children = draw([request(breadth=6), request(PROMPTS[1], seed=8)])
    first, later = engine.asked[:9], engine.asked[9:]
    assert later, "no child went on: the test shows nothing"
    begun = {ids for ids, _ in first}
    assert all(any(ids[: len(b)] == b and len(ids) > len(b) for b in begun) for ids, _ in later)
    assert len({how.seed for _, how in engine.asked}) == len(engine.asked)
    assert draw.reused == sum(len(ids) - 1 for ids, _ in later) + sum(
        len(ids) - 1 for at, (ids, _) in enumerate(first) if ids in {before for before, _ in first[:at]}
    )
    assert draw.sampled == sum(step.cost for family in children for step in family)
    again = beside(Engine(), sampler(split_statements, step_tokens=25))([request(PROMPTS[1], seed=8)])
    assert again[0] == children[1], "what is asked for beside it makes no difference"


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

    engine.generate = refuse  # type: ignore[method-assign]
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
