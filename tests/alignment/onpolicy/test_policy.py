"""Policy, critic and reference in one module: what is scored, what is trained, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.onpolicy.batch import Tokens
from alignment.onpolicy.building import build_module, load_critic
from alignment.onpolicy.policy import CRITIC, ActorCritic, Reference, save_policy
from alignment.onpolicy.rollout import Ask, Decoding, HFSampler
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.alignment.onpolicy import small

ROWS = [((1, 2), (2, 0)), ((1,), (1,)), ((2, 2, 1), ()), ((1, 1), (2, 1))]


def tokens() -> Tokens:
    prompts, answers = zip(*ROWS, strict=True)
    return Tokens.of(prompts, answers, "cpu", 0)


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def test_log_probabilities_are_those_of_the_models_own_logits_at_the_temperature() -> None:
    policy, batch = small.model(), tokens()
    flat = ActorCritic(policy, 0.6)(**batch.inputs(range(4)), statistics=True)
    found = batch.spread(flat["logps"], range(4))
    for row, (prompt, ids) in enumerate(ROWS):
        if ids:
            wanted = small.logps_of(policy, prompt, ids, 0.6)
            torch.testing.assert_close(found[row, : len(ids)], wanted, atol=1e-12, rtol=0)
        assert not found[row, len(ids) :].any()
    logits = policy(input_ids=torch.tensor([[1, 2]])).logits[0, -1] / 0.6
    logits = logits.detach()
    assert float(flat["entropy"][0]) == pytest.approx(
        float(torch.distributions.Categorical(logits=logits).entropy())
    )


def test_the_temperature_comes_after_a_models_soft_cap() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=3,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        final_logit_softcapping=0.5,
        attn_implementation="eager",
        pad_token_id=0,
        eos_token_id=0,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    policy = Gemma2ForCausalLM(config).double().eval()
    batch = Tokens.of([(1, 2)], [(2, 1)], "cpu", 0)
    found = ActorCritic(policy, 0.3)(**batch.inputs([0]))["logps"]
    torch.testing.assert_close(found, small.logps_of(policy, (1, 2), (2, 1), 0.3), atol=1e-9, rtol=0)


def test_a_value_is_of_the_state_in_which_the_token_was_chosen() -> None:
    for kind in ("head", "critic"):
        policy, batch = small.model(), tokens()
        module = ActorCritic(policy, 1.0, kind)  # type: ignore[arg-type]
        assert not batch.spread(module(**batch.inputs(range(4)), values=True)["values"], range(4)).any()
        torch.nn.init.normal_(module.value_head.weight)
        found = batch.spread(module(**batch.inputs(range(4)), values=True)["values"], range(4))
        states = policy.model(input_ids=torch.tensor([[1, 2, 2]])).last_hidden_state[0]
        wanted = (states[1:3] @ module.value_head.weight[0]).detach()  # before the first and second token
        torch.testing.assert_close(found[0].detach(), wanted, atol=1e-12, rtol=0)


def test_the_reference_is_a_copy_that_does_not_move_or_the_adapter_switched_off() -> None:
    batch = tokens()
    for config, kind in ((None, None), (lora(), None), (lora(), "critic")):
        module = build_module(small.model(), 0.8, peft_config=config, value_model=kind)  # type: ignore[arg-type]
        start = module(**batch.inputs(range(4)))["logps"].detach()
        reference = Reference(module)
        with torch.no_grad():
            for parameter in module.groups()[0]:
                parameter += 0.1
        now = module(**batch.inputs(range(4)))["logps"].detach()
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        with reference.of(module) as other, torch.no_grad():
            then = other(**batch.inputs(range(4)))["logps"]
        assert trained == {name for name, p in module.named_parameters() if p.requires_grad}
        torch.testing.assert_close(then, start, atol=0, rtol=0)
        assert (now - start).abs().max() > 1e-3
        torch.testing.assert_close(module(**batch.inputs(range(4)))["logps"].detach(), now, atol=0, rtol=0)


def test_adapters_of_policy_and_critic_share_a_trunk_and_nothing_else(tmp_path: Path) -> None:
    module = build_module(small.model(), 1.0, peft_config=lora(), value_model="critic")
    policy, critic = module.groups()
    names = {id(p): name for name, p in module.named_parameters()}
    assert all(".default." in names[id(p)] for p in policy) and len(policy) == 4
    assert (
        all(f".{CRITIC}." in names[id(p)] or "value_head" in names[id(p)] for p in critic)
        and len(critic) == 6
    )
    assert module.critic is None, "the trunk is not copied"
    torch.nn.init.normal_(module.value_head.weight)
    batch = tokens()
    found = module(**batch.inputs(range(4)), values=True)
    grads = torch.autograd.grad(
        found["values"].sum(), [*policy, *critic], allow_unused=True, retain_graph=True
    )
    assert all(g is None for g in grads[: len(policy)]) and any(g is not None for g in grads[len(policy) :])
    grads = torch.autograd.grad(found["logps"].sum(), [*policy, *critic], allow_unused=True)
    assert any(g is not None for g in grads[: len(policy)])
    assert all(g is None or not g.any() for g in grads[len(policy) :])
    assert [p.requires_grad for p in (*policy, *critic)] == [True] * 10, "switching decides nothing"
    save_policy(module.policy, tiny.tokenizer(), tmp_path / "model")
    assert (tmp_path / "model/adapter_model.safetensors").exists()
    assert not (tmp_path / "model" / CRITIC).exists()
    with pytest.raises(CodealignError, match="gradient_checkpointing does not go"):
        build_module(small.model(), 1.0, peft_config=lora(), value_model="critic", checkpointing=True)


@pytest.mark.parametrize("kind", ["head", "critic"])
def test_ppo_trains_adapters_and_leaves_the_trunk(kind: str) -> None:
    def reward(completions: list[str], **columns: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    samples = [small.answer(ids) for ids in ((1, 0), (2, 2), (0,), (1, 1))]
    t = small.trainer(
        "ppo",
        reward,
        sampler=small.Scripted(samples),
        rows=4,
        prompts=[(1, 2), (2,), (1,), (1, 1)],
        peft_config=lora(),
        value_model=kind,
        loop={"max_steps": 1},
    )
    before = {name: p.detach().clone() for name, p in t.module.named_parameters()}
    t.train()
    moved = {name for name, p in t.module.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora" in name or "value_head" in name for name in moved)
    assert any(".default." in name for name in moved)
    assert any(f".{CRITIC}." in name for name in moved) == (kind == "critic")


def test_answers_are_drawn_with_the_adapters_on() -> None:
    class Letters:
        eos_token_id = 0

        def batch_decode(self, rows: list[list[int]], **options: Any) -> list[str]:
            return ["" for _ in rows]

    module = build_module(small.model(), 1.0, peft_config=lora())
    with torch.no_grad():
        for parameter in module.groups()[0]:
            parameter.normal_()
    sampler = HFSampler(Letters())
    sampler.sync(module.policy)
    drawn = sampler.draw([Ask("0/0", (1, 2), 30, True)], Decoding(1.0, 1.0, 2, (), seed=0, logps=True))[0]
    assert tuple(drawn[-1].ids) == small.greedy(module.policy, (1, 2))
    for sample in drawn[:-1]:
        wanted = small.logps_of(module.policy, (1, 2), sample.ids, 1.0).tolist()
        assert sample.logps == pytest.approx(wanted, abs=1e-9)
    with module.policy.disable_adapter():
        other = small.logps_of(module.policy, (1, 2), drawn[0].ids, 1.0).tolist()
    assert drawn[0].logps != pytest.approx(other, abs=1e-3)


def test_checkpointing_gives_the_same_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        module = build_module(small.model(), 1.0, value_model="head", checkpointing=checkpointing).train()
        out = module(**tokens().inputs(range(4)), values=True)
        found.append(torch.autograd.grad(out["logps"].sum(), module.groups()[0], allow_unused=True))
    for one, two in zip(*found, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, atol=1e-12, rtol=1e-9)


# A critic from a folder


def gpt2(folder: Path, **changes: Any) -> str:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 3, "n_embd": 12, "n_layer": 1, "n_head": 2, "n_positions": 64, **changes}
    torch.manual_seed(1)
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return str(folder)


def test_a_critic_of_another_architecture_learns_with_the_policys_tokens(tmp_path: Path) -> None:
    path = gpt2(tmp_path / "critic")
    t = small.trainer(
        "ppo",
        lambda completions, **columns: [float(len(text)) for text in completions],
        sampler=small.Scripted([small.answer((1, 0)), small.answer((2, 2))]),
        rows=2,
        prompts=[(1, 2), (2,)],
        value_model="critic",
        value_model_path=path,
        loop={"max_steps": 1},
    )
    assert t.module.value_head.in_features == 12 != t.module.policy.config.hidden_size
    before = [p.detach().clone() for p in t.module.critic.parameters()]
    t.train()
    # The head is 0 at first, so the trunk moves from the second of four epochs on.
    assert any(not torch.equal(a, b) for a, b in zip(before, t.module.critic.parameters(), strict=True))


def test_a_reward_model_gives_the_critic_its_head(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    config = LlamaConfig(**{**small.model().config.to_dict(), "num_labels": 1})
    scorer = LlamaForSequenceClassification(config)
    scorer.save_pretrained(tmp_path / "scorer")
    trunk, head = load_critic(str(tmp_path / "scorer"), small.model())
    module = ActorCritic(small.model(), 1.0, "critic", (trunk, head))
    torch.testing.assert_close(module.value_head.weight, scorer.score.weight.double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"vocab_size": 5}, "has 5 tokens, the policy 3"), ({"n_positions": 8}, "window of 8")],
)
def test_a_critic_that_cannot_read_the_policys_answers_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CodealignError, match=message):
        load_critic(gpt2(tmp_path / "critic", **changes), small.model())


def test_a_folder_that_is_no_decoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="no such model folder"):
        load_critic(str(tmp_path / "missing"), small.model())
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"model_type": "bert", "vocab_size": 3, "num_labels": 1}')
    with pytest.raises(CodealignError, match="reads both ways"):
        load_critic(str(tmp_path / "bert"), small.model())
