"""The vLLM sampler: what it hands to the engine, and (where vLLM is installed) that weights arrive."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.onpolicy.rollout import Answer, Ask, Decoding, HFSampler
from alignment.onpolicy.vllm_rollout import VLLMSampler, whole_weights
from codegen_eval.errors import CodealignError
from codegen_eval.generation.sampling import sample_seed
from tests.alignment import tiny
from tests.alignment.onpolicy import small

installed = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)")


class Engine:
    """Stands where vLLM's LLM does: answers `a`, then the end, or is cut after one token."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments, self.loaded, self.emptied, self.asked, self.called = arguments, {}, 0, [], []
        model = SimpleNamespace(load_weights=lambda weights: self.loaded.update(weights))
        runner = SimpleNamespace(model=model)
        executor = SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner))
        self.llm_engine = SimpleNamespace(model_executor=executor)

    def collective_rpc(self, method: str, kwargs: dict[str, Any]) -> None:
        self.called.append(method)
        self.loaded.update(kwargs["weights"])

    def reset_prefix_cache(self) -> bool:
        self.emptied += 1
        return True

    def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
        self.asked += list(zip(prompts, settings, strict=True))
        out = []
        for s in settings:
            ids = [1, 0][: s.max_tokens]
            steps = [{token: SimpleNamespace(logprob=-0.5)} for token in ids]
            reason = "stop" if 0 in ids else "length"
            out.append(SimpleNamespace(token_ids=ids, logprobs=steps, finish_reason=reason))
        return [SimpleNamespace(outputs=[one]) for one in out]


class Letters:
    eos_token_id = 0

    def decode(self, ids: list[int], **options: Any) -> str:
        return "".join("_ab"[token] for token in ids).replace("_", "")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is what stands above."""
    module = ModuleType("vllm")
    module.__spec__ = SimpleNamespace(name="vllm")  # type: ignore[assignment]
    module.LLM, module.SamplingParams = Engine, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_sampled_and_greedy_answers_go_in_one_call_with_seeds_of_their_own(fake: None) -> None:
    sampler = VLLMSampler(Letters(), "folder", dtype="float32", engine={"max_model_len": 64})
    sampler.sync(small.model())
    decoding = Decoding(0.7, 0.9, 2, ("b",), seed=3)
    drawn = sampler.draw([Ask("5/0", (1, 2), 2, True), Ask("5/1", (1,), 1, False)], decoding)
    assert [len(answers) for answers in drawn] == [3, 1]
    first = drawn[0][0]
    assert (first.ids, first.text, first.ended, first.logps) == ([1, 0], "a", True, [-0.5, -0.5])
    engine = sampler._engine
    assert engine.arguments == {
        "model": "folder",
        "dtype": "float32",
        "seed": 0,
        "logprobs_mode": "processed_logprobs",
        "enable_chunked_prefill": False,
        "max_model_len": 64,
        "enforce_eager": True,
        "worker_extension_cls": "alignment.onpolicy.vllm_worker.WeightTaker",
    }
    assert [s.temperature for _, s in engine.asked] == [0.7, 0.7, 0.0, 0.7]
    assert [getattr(s, "seed", None) for _, s in engine.asked] == [
        sample_seed(3, "5/0", 0),
        sample_seed(3, "5/0", 1),
        None,
        sample_seed(3, "5/1", 0),
    ]
    assert all(s.stop_token_ids == [0] and s.stop == ["b"] and s.logprobs == 0 for _, s in engine.asked)
    cut = sampler.draw([Ask("5/2", (1,), 1)], Decoding(1.0, 1.0, 1, (), seed=0))[0][0]
    assert not cut.ended and cut.ids == [1]
    sampler.sync(small.model(1))
    assert engine.emptied == 2 and engine.called == ["take_weights"] * 2
    for name, weight in small.model(1).state_dict().items():
        assert torch.equal(engine.loaded[name], weight), "the second model's weights arrived"


def test_adapters_are_added_on_the_way_and_the_policy_stays_as_it_is() -> None:
    from peft import LoraConfig, get_peft_model

    base = small.model()
    names = set(base.state_dict())
    policy = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora" in name:
                parameter.normal_()
    before = {name: p.detach().clone() for name, p in policy.state_dict().items()}
    weights = dict(whole_weights(policy))
    assert set(weights) == names
    fresh = small.model(1)
    fresh.load_state_dict(weights)
    ids = torch.tensor([[1, 2, 1]])
    torch.testing.assert_close(fresh(input_ids=ids).logits, policy(input_ids=ids).logits, atol=1e-6, rtol=0)
    assert all(torch.equal(before[name], p) for name, p in policy.state_dict().items())


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_message_says_what_to_do() -> None:
    with pytest.raises(CodealignError, match="set use_vllm false"):
        VLLMSampler(Letters(), "folder")


def test_on_another_device_than_the_cpu_the_model_itself_loads(fake: None) -> None:
    sampler = VLLMSampler(Letters(), "folder", engine={"enforce_eager": False})
    sampler.sync(small.model().to("meta"))
    engine = sampler._engine
    assert set(engine.loaded) == set(small.model().state_dict()) and not engine.called
    assert "worker_extension_cls" not in engine.arguments and engine.arguments["enforce_eager"] is False


def test_a_compiled_engine_is_refused_on_a_cpu(fake: None) -> None:
    with pytest.raises(CodealignError, match="enforce_eager false: on a CPU a compiled model keeps its old"):
        VLLMSampler(Letters(), "folder", engine={"enforce_eager": False}).sync(small.model())


def test_a_prefix_cache_that_was_not_emptied_stops_training(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "reset_prefix_cache", lambda self: False)
    with pytest.raises(CodealignError, match="did not empty its prefix cache"):
        VLLMSampler(Letters(), "folder").sync(small.model())


def wide(seed: int = 0) -> Any:
    """A model of tiny's tokenizer; its embeddings are tied."""
    return small.wide(len(tiny.tokenizer()), seed)


def adapted(seed: int) -> Any:
    """A model with an adapter that changes what it says."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    policy = get_peft_model(
        wide(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora" in name:
                parameter.normal_(std=0.3)
    return policy


def asks(count: int = 0) -> list[Ask]:
    """Prompts of several blocks of the cache, so that their keys and values are kept."""
    shared = "# what all prompts begin with\n" * 8
    texts = [f"{shared}def f{i}(xs):\n" for i in range(4)]
    return [Ask(f"0/{i}", tiny.tokenizer().encode(text), count, greedy=True) for i, text in enumerate(texts)]


def by_hugging_face(policy: Any, wanted: list[Ask], decoding: Decoding) -> list[list[int]]:
    """Greedy answers of the policy itself."""
    own = HFSampler(tiny.tokenizer())
    own.sync(policy)
    return [answers[-1].ids for answers in own.draw(wanted, decoding)]


DECODING = Decoding(0.8, 1.0, 12, (), seed=1)


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> VLLMSampler:
    """One engine for all tests: starting one takes a minute."""
    folder = tmp_path_factory.mktemp("model")
    wide().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    engine = {"max_model_len": 256, "block_size": 32}
    return VLLMSampler(tiny.tokenizer(), str(folder), dtype="float32", engine=engine)


@installed
@pytest.mark.vllm
def test_after_a_sync_vllm_answers_as_the_changed_model_does(sampler: VLLMSampler) -> None:
    greedy = []
    for policy in (wide(), wide(7), adapted(3), wide()):
        sampler.sync(policy)
        drawn = sampler.draw(asks(2), DECODING)
        greedy.append([answers[-1].ids for answers in drawn])
        assert greedy[-1] == by_hugging_face(policy, asks(), DECODING)
        for ask, answers in zip(asks(2), drawn, strict=True):
            for answer in answers[:2]:
                with torch.no_grad():
                    logps = small.logps_of(policy, ask.prompt_ids, answer.ids, 0.8)
                torch.testing.assert_close(torch.tensor(answer.logps), logps, atol=1e-3, rtol=0)
    assert greedy[0] == greedy[3], "the first model again"
    assert len({str(g) for g in greedy}) == 3, "the models differ, so the weights have arrived"


@installed
@pytest.mark.vllm
def test_a_prefix_of_the_old_weights_would_spoil_answers_and_none_is_kept(
    sampler: VLLMSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = wide(11)
    wanted = by_hugging_face(new, asks(), DECODING)
    sampler.sync(wide())
    sampler.draw(asks(), DECODING)  # its prefixes lie in the cache now
    with monkeypatch.context() as patch:
        patch.setattr(sampler._engine, "reset_prefix_cache", lambda: True)
        sampler.sync(new)
    assert [a[-1].ids for a in sampler.draw(asks(), DECODING)] != wanted, "the trap is there"
    sampler.sync(wide())
    sampler.draw(asks(), DECODING)
    sampler.sync(new)
    assert [a[-1].ids for a in sampler.draw(asks(), DECODING)] == wanted


@installed
@pytest.mark.vllm
@pytest.mark.parametrize("packing", [False, True])
def test_a_head_tied_to_the_embeddings_is_packed_again(
    sampler: VLLMSampler, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    """A checkpoint names tied weights once; vLLM itself would leave the head as it was."""
    new = wide(7)
    once = {name: weight for name, weight in new.state_dict().items() if name != "lm_head.weight"}
    sampler.sync(wide())
    with monkeypatch.context() as patch:
        if not packing:
            patch.setattr("alignment.onpolicy.vllm_worker.pack_tied_heads", lambda model: None)
        sampler._engine.collective_rpc("take_weights", kwargs={"weights": once.items()})
    sampler._engine.reset_prefix_cache()
    same = [a[-1].ids for a in sampler.draw(asks(), DECODING)] == by_hugging_face(new, asks(), DECODING)
    assert same is packing


@installed
@pytest.mark.vllm
def test_in_ten_steps_of_remax_greedy_answers_are_always_those_of_the_weights_as_they_are(
    sampler: VLLMSampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, seen = wide(), []

    def reward(prompts: Any, completions: list[str], **columns: Any) -> list[float]:
        return [float(text.count("e") - text.count("x")) for text in completions]

    trainer = small.trainer(
        "remax",
        reward,
        sampler=sampler,
        policy=policy,
        tokenizer=tiny.tokenizer(),
        prompts=[ask.prompt_ids for ask in asks()],
        rows=4,
        loop={"max_steps": 10, "learning_rate": 3e-3},
        max_completion_length=12,
        importance_correction=True,
    )
    draw = VLLMSampler.draw

    def compared(self: VLLMSampler, wanted: list[Ask], decoding: Decoding) -> list[list[Answer]]:
        drawn = draw(self, wanted, decoding)
        greedy = [answers[-1].ids for answers in drawn]
        seen.append(greedy == by_hugging_face(policy, wanted, decoding))
        texts.append([tuple(answer) for answer in sorted(greedy)])
        return drawn

    texts: list[Any] = []
    monkeypatch.setattr(VLLMSampler, "draw", compared)
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    trainer.train()
    assert seen == [True] * 10
    assert len({str(text) for text in texts}) > 3, "training changed what is said"
    assert all(not torch.equal(before[name], weight) for name, weight in policy.state_dict().items())
