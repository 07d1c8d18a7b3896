"""The loop: first pass, deterministic greedy answers, failed rewards, bad input, checkpoints."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from alignment.health.checkpoints import newest_whole
from alignment.onpolicy.prompts import PromptOrder
from alignment.onpolicy.rollout import Ask, Decoding, HFSampler
from codegen_eval.errors import CodealignError
from tests.alignment import tiny
from tests.alignment.onpolicy.small import Scripted, answer, model, trainer

PROMPTS = [(1, 2), (2,), (2, 2, 1, 1, 1), (1,), (1, 1), (2, 1), (2, 1, 1), (1, 2, 2)]


class Decoded(SimpleNamespace):
    """The tiny model's tokenizer for tests: one letter a token."""

    pad_token_id = 0
    eos_token_id = 0
    chat_template = None

    def batch_decode(self, rows: list[list[int]], **options: Any) -> list[str]:
        return ["".join("_ab"[token] for token in row) for row in rows]


class Figures(TrainerCallback):  # type: ignore[misc]
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.events: list[str] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        self.rows.append({"step": state.global_step, **logs})

    def on_step_end(self, args: Any, state: Any, control: Any, rollout: Any = None, **more: Any) -> None:
        self.events.append(f"{state.global_step}: {len(rollout.samples)}")


def count_b(completions: list[str], **columns: Any) -> list[float]:
    return [float(text.count("b")) for text in completions]


def made(name: str, reward: Any = count_b, **more: Any) -> Any:
    settings: dict[str, Any] = {"rows": 4, "passes": 2, "prompts": PROMPTS, "tokenizer": Decoded(), **more}
    return trainer(name, reward, **settings)


def weights(t: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in t.module.parameters()]


@pytest.mark.parametrize("name", ["remax", "rloo", "grpo", "reinforce_pp", "ppo"])
def test_on_the_first_pass_the_ratio_is_exactly_1_and_nothing_is_clipped(name: str) -> None:
    seen = Figures()
    t = made(
        name,
        num_generations=2,
        num_ppo_epochs=1,
        temperature=0.6,
        policy_loss="clipped",
        policy=model().float(),
        callbacks=[seen],
        loop={"max_steps": 2},
    )
    t.train()
    for row in seen.rows:
        assert row["val/ratio"] == 1.0 and row["val/ratio_max"] == 1.0
        assert row["policy/clipfrac_avg"] == 0.0 and row["policy/approxkl_avg"] == 0.0
    assert seen.events == ["1: 8", "2: 8"]


def test_later_epochs_move_the_ratio_and_a_limit_stops_them() -> None:
    updates = []
    for limit in (None, 1e-12):
        seen = Figures()
        more = {} if limit is None else {"max_approxkl": limit}
        t = made("ppo", num_ppo_epochs=3, num_mini_batches=2, callbacks=[seen], loop={"max_steps": 1}, **more)
        t.train()
        updates.append(seen.rows[0]["policy/updates"])
        assert seen.rows[0]["val/ratio_max"] > 1.0
    # With a limit of nothing the second mini-batch of the first epoch already has moved too far.
    assert updates == [6.0, 1.0]


@pytest.mark.parametrize("name", ["remax", "rloo", "grpo", "reinforce_pp", "reinforce", "ppo"])
def test_every_algorithm_learns_what_is_paid_and_logs_it(name: str) -> None:
    seen, policy = Figures(), model()
    with torch.no_grad():
        policy.get_output_embeddings().weight *= 0.2  # nearly uniform: everything is tried
    t = made(
        name,
        lambda completions, **columns: [float(text.count("a")) for text in completions],
        rows=32,
        passes=1,
        num_generations=4,
        kl_coef=0.01,
        policy=policy,
        callbacks=[seen],
        loop={"max_steps": 10, "learning_rate": 3e-2, "max_grad_norm": 1.0},
    )
    t.train()
    rewards = [row["reward/sampled"] for row in seen.rows]
    assert rewards[0] < 0.9 and sum(rewards[-3:]) / 3 > 1.3, rewards
    assert seen.rows[-1]["objective/kl"] > 0.5
    shown = {"objective/kl_k2", "objective/kl_k3", "objective/entropy", "objective/rlhf_reward", "grad_norm"}
    shown |= {"policy/entropy_avg", "loss/policy_avg", "completions/mean_length", "completions/clipped_ratio"}
    shown |= {"time/reward_wait_share", "reward/std", "kl_coef", "lr", "episode"}
    shown |= {"reward/greedy"} if name == "remax" else set()
    shown |= {"loss/value_avg", "val/explained_variance", "val/clipfrac_avg"} if name == "ppo" else set()
    assert shown <= seen.rows[-1].keys()


def test_the_critic_learns_alone_while_it_warms_up() -> None:
    for kind in ("head", "critic"):
        t = made(
            "ppo",
            value_model=kind,
            critic_warmup_steps=2,
            loop={"max_steps": 2, "weight_decay": 0.1, "learning_rate": 1e-2},
        )
        policy = [p.detach().clone() for p in t.module.policy.parameters()]
        head = t.module.value_head.weight.detach().clone()
        t.train()
        assert all(torch.equal(a, b) for a, b in zip(policy, t.module.policy.parameters(), strict=True))
        assert not torch.equal(head, t.module.value_head.weight)


def test_an_adaptive_coefficient_grows_where_the_kl_is_above_its_target() -> None:
    seen = Figures()
    t = made(
        "reinforce",
        kl_target=1e-6,
        kl_horizon=80,
        kl_coef=0.1,
        callbacks=[seen],
        loop={"max_steps": 4, "learning_rate": 5e-2},
    )
    t.train()
    assert seen.rows[-1]["kl_coef"] != seen.rows[0]["kl_coef"] == 0.1
    with pytest.raises(CodealignError, match="horizon"):
        made("reinforce", kl_target=1.0, kl_horizon=4, loop={"max_steps": 1}).train()


def test_a_variance_of_passes_is_that_of_the_enumerated_passes() -> None:
    seen = Figures()
    t = made("reinforce", kl_coef=0.0, gradient_variance_steps=1, callbacks=[seen], loop={"max_steps": 1})
    t.train()
    assert seen.rows[0]["grad_variance"] > 0
    share = seen.rows[0]["grad_variance"] / seen.rows[0]["grad_norm"] ** 2
    assert seen.rows[0]["grad_variance_share"] == pytest.approx(share)


# Sampling


def test_greedy_answers_are_the_same_twice_and_alone_and_are_those_of_generate() -> None:
    sampler = HFSampler(tiny.tokenizer())
    policy = tiny.model()
    sampler.sync(policy)
    decoding = Decoding(1.0, 1.0, 16, (), seed=3, logps=True)
    ids = [list(tiny.tokenizer().encode(f"def f{i}(xs):\n")) for i in range(3)]
    first, second = (
        sampler.draw([Ask(f"0/{i}", row, 2, True) for i, row in enumerate(ids)], decoding) for _ in range(2)
    )
    assert first == second
    assert policy.training, "the mode is given back"
    alone = sampler.draw([Ask("9/9", ids[1], 0, True)], Decoding(0.3, 0.5, 16, (), seed=8))
    assert alone[0][0].ids == first[1][-1].ids, "neither seed, temperature nor company matter"
    out = policy.eval().generate(
        input_ids=torch.tensor([ids[1]]), do_sample=False, max_new_tokens=16, pad_token_id=1
    )
    assert out[0, len(ids[1]) :].tolist() == first[1][-1].ids
    assert first[1][0].ids != first[1][1].ids, "samples differ"
    assert first[1][-1].logps == [0.0] * len(first[1][-1].ids), "a greedy token is certain"


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_sampled_log_probabilities_are_those_of_the_distribution_that_was_drawn_from(top_p: float) -> None:
    sampler, policy = HFSampler(Decoded()), model()
    sampler.sync(policy)
    drawn = sampler.draw([Ask("0/0", (1, 2), 40, False)], Decoding(0.7, top_p, 1, (), seed=1, logps=True))
    logits = policy(input_ids=torch.tensor([[1, 2]])).logits[0, -1].detach() / 0.7
    probabilities = logits.softmax(-1)
    order = probabilities.argsort(descending=True)
    inside = [t for i, t in enumerate(order.tolist()) if probabilities[order[:i]].sum() < top_p]
    kept = float(probabilities[inside].sum())
    for sample in drawn[0]:
        assert sample.ids[0] in inside
        assert sample.logps[0] == pytest.approx(math.log(float(probabilities[sample.ids[0]]) / kept))


def test_samples_depend_on_their_step_slot_and_number_alone() -> None:
    ids = {}
    for at_once in (2, 64):
        t = made("rloo", num_generations=2, local_rollout_forward_batch_size=at_once)
        ids[at_once] = [t.draw(n).samples for n in (0, 1, 0)]
        t.calls.close()
    assert ids[2] == ids[64] and ids[2][0] == ids[2][2] != ids[2][1]


def test_every_pass_over_the_prompts_takes_each_once() -> None:
    order = PromptOrder(7, 3, seed=1)
    seen = [place for number in range(14) for place in order.step(number)]
    for start in range(0, 42, 7):
        assert sorted(seen[start : start + 7]) == list(range(7))
    assert seen[:7] != seen[7:14]
    assert PromptOrder(7, 3, seed=1).step(11) == seen[33:36], "a step is found without those before it"


# Rewards that fail


class Flaky:
    """Raises on every `period`-th call."""

    __name__ = "flaky"

    def __init__(self, period: int) -> None:
        self.period, self.calls = period, 0

    async def __call__(self, completions: list[str], **columns: Any) -> list[float]:
        self.calls += 1
        if self.calls % self.period == 0:
            raise RuntimeError(f"call {self.calls} broke")
        return count_b(completions)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_reward_that_raises_on_some_calls_is_tried_again_counted_and_never_scored_0(retries: int) -> None:
    seen = Figures()
    flaky = Flaky(5)
    t = made(
        "remax",
        flaky,
        reward_retries=retries,
        local_rollout_forward_batch_size=8,
        max_failed_rewards=1.0,
        callbacks=[seen],
        loop={"max_steps": 6, "logging_steps": 6},
    )
    kept: list[float | None] = []
    original = t.draw

    def draw(number: int) -> Any:
        rollout = original(number)
        for sample, reward in zip(rollout.samples, rollout.rewards, strict=True):
            assert reward is None or reward == sample.text.count("b")
        kept.extend(rollout.rewards)
        return rollout

    t.draw = draw
    t.train()
    row = seen.rows[0]
    if retries:
        assert None not in kept and row["reward/missing_share"] == 0
        assert row["reward/raised_calls"] > 0
    else:
        assert kept.count(None) > 0 and row["reward/missing_share"] > 0.1


def test_too_many_missing_rewards_stop_with_a_checkpoint_from_which_a_mended_reward_goes_on(
    tmp_path: Path,
) -> None:
    broken = {"from": 2}

    def reward(completions: list[str], trainer_state: Any, **columns: Any) -> list[float | None]:
        if trainer_state.global_step >= broken["from"]:
            raise ConnectionError("the sandbox is gone")
        return count_b(completions)

    common = {"folder": tmp_path, "failed_rewards_window": 5, "loop": {"max_steps": 8, "save_steps": 100}}
    t = made("remax", reward, **common)
    with pytest.raises(CodealignError, match=r"no reward.*the sandbox is gone.*checkpoint-3.*whole"):
        t.train()
    # A fifth of a window of five steps: the second step without rewards is too many; the first one is done.
    found = newest_whole(tmp_path)
    assert found is not None and found.name == "checkpoint-3"
    broken["from"] = 99
    again = made("remax", reward, **common)
    assert again.train(found).global_step == 8


def test_a_step_without_any_reward_changes_no_weight() -> None:
    t = made("ppo", lambda completions, **c: [None] * len(completions), loop={"max_steps": 1})
    before = weights(t)
    t.train()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(t), strict=True))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda completions, **c: [1.0], r"returned 1 values for 8"),
        (lambda completions, **c: 1.0, r"float"),
        (lambda completions, **c: ["good"] * len(completions), r"str"),
        (lambda completions, **c: [math.nan] * len(completions), r"nan"),
        (lambda completions, **c: [math.inf] * len(completions), r"inf"),
    ],
)
def test_a_reward_that_breaks_the_protocol_is_an_error_at_once(reward: Any, message: str) -> None:
    t = made("reinforce", reward)
    with pytest.raises(CodealignError, match=message):
        t.train()


def test_rewards_get_the_columns_of_their_rows_and_what_they_log_is_logged() -> None:
    asked: list[tuple[str, int]] = []

    def reward(
        prompts: Any, completions: Any, completion_ids: Any, number: Any, log_metric: Any, **c: Any
    ) -> Any:
        asked.extend(zip(prompts, number, strict=True))
        assert all(len(ids) >= 1 for ids in completion_ids)
        log_metric("mine/length", len(completions))
        return [0.0] * len(completions)

    seen = Figures()
    t = made("rloo", reward, num_generations=2, callbacks=[seen], loop={"max_steps": 1})
    t.train()
    assert all(prompt == f"prompt {number}" for prompt, number in asked) and len(asked) == 8
    assert seen.rows[0]["mine/length"] == 8


# Bad input, before the first step


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("rloo", {"rows": 3, "passes": 1, "num_generations": 2}, "whole groups of num_generations 2"),
        ("ppo", {"passes": 3, "num_mini_batches": 2}, "cannot be divided into"),
        ("remax", {"rows": 64}, r"takes 128 prompts.*there are 8"),
        ("rloo", {"num_generations": 1}, "give 2 or more"),
        ("remax", {"num_ppo_epochs": 2}, "set policy_loss clipped"),
        ("remax", {"lam": 0.9}, "--lam does nothing in remax"),
        ("remax", {"cliprange": 0.1}, "clipped loss"),
        ("ppo", {"value_model_path": "x"}, "set value_model critic"),
        ("reinforce", {"kl_coef": 0.0, "kl_target": 1.0}, "kl_target does nothing"),
        ("reinforce", {"importance_cap": 2.0}, "importance_correction, which is off"),
        ("reinforce_pp", {"group_baseline": True, "kl_form": "one_step"}, "kl_form does nothing with group"),
        ("reinforce", {"temperature": 0.0}, "--temperature must be"),
        ("reinforce", {"top_p": 0.0}, "--top_p"),
        ("reinforce", {"gradient_variance_steps": 1, "passes": 1}, "2 x num_mini_batches"),
        ("reinforce", {"loop": {"learning_rate": math.nan}}, "--learning_rate must be"),
        ("reinforce", {"loop": {"lr_scheduler_type": "liner"}}, "did you mean 'linear'"),
        ("reinforce", {"loop": {"warmup_steps": 3}}, "constant_with_warmup"),
        ("reinforce", {"loop": {"report_to": "tensorbord"}}, "did you mean 'tensorboard'"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_step(
    name: str, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        made(name, **more)


def test_a_sampler_that_is_not_exact_needs_the_correction() -> None:
    sampler = Scripted([answer((2, 0))])
    sampler.exact = False
    with pytest.raises(CodealignError, match="set importance_correction true"):
        made("reinforce", sampler=sampler)


def test_a_reward_without_room_for_columns_is_refused() -> None:
    with pytest.raises(CodealignError, match=r"must take \*\*columns"):
        made("reinforce", lambda prompts, completions: [0.0])


def test_answers_without_a_token_are_trained_on_as_nothing() -> None:
    samples = [answer(()), answer((2, 0)), answer(()), answer(())]
    t = made("reinforce", rows=4, passes=1, sampler=Scripted(samples), loop={"max_steps": 1}, kl_coef=0.1)
    before = weights(t)
    t.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(t), strict=True))
    empty = made("ppo", rows=4, passes=1, sampler=Scripted([answer(())] * 4), loop={"max_steps": 1})
    before = weights(empty)
    empty.train()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(empty), strict=True))


# Checkpoints


@pytest.mark.parametrize("name", ["remax", "ppo"])
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(name: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"kl_target": 0.05, "kl_horizon": 100} | (
        {"num_ppo_epochs": 2, "num_mini_batches": 2} if name == "ppo" else {"normalize_rewards": True}
    )
    loop = {"max_steps": 6, "save_steps": 3, "save_total_limit": 5, "lr_scheduler_type": "linear"}
    loop["logging_steps"] = 2  # step 3's checkpoint lies within an interval of the log

    def run(folder: Path, resume: Path | None = None) -> tuple[Any, list[dict[str, float]]]:
        seen = Figures()
        t = made(name, folder=folder, callbacks=[seen], loop=loop, **more)
        t.train(resume)
        return t, seen.rows

    whole, rows = run(tmp_path / "whole")
    # Another model as it is before training: nothing may be left of it.
    half, later = run(tmp_path / "half", tmp_path / "whole/checkpoint-3")
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(half), strict=True))
    for mine, theirs in zip(rows[1:], later, strict=True):
        assert {k: v for k, v in mine.items() if not k.startswith("time/")} == {
            k: v for k, v in theirs.items() if not k.startswith("time/")
        }
    states = [
        torch.load(tmp_path / f"{run}/checkpoint-6/optimizer.pt", weights_only=True)["optimizer"]["state"]
        for run in ("whole", "half")
    ]
    for key, state in states[0].items():
        assert all(torch.equal(state[k], states[1][key][k]) for k in state)


def test_the_newest_whole_checkpoint_is_found_and_a_damaged_one_passed_over(tmp_path: Path) -> None:
    made("reinforce", folder=tmp_path, loop={"max_steps": 4, "save_steps": 1, "save_total_limit": 3}).train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    (tmp_path / ".tmp.checkpoint-9").mkdir()
    content = (tmp_path / "checkpoint-4/weights.safetensors").read_bytes()
    (tmp_path / "checkpoint-4/weights.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-3"
    (tmp_path / "checkpoint-3/complete").write_text("[]")
    assert newest_whole(tmp_path) == tmp_path / "checkpoint-2"
    (tmp_path / "checkpoint-2/state.json").unlink()
    assert newest_whole(tmp_path) is None


def test_a_checkpoint_of_another_coefficient_or_critic_is_refused(tmp_path: Path) -> None:
    made("ppo", folder=tmp_path, loop={"max_steps": 1}).train()
    found = tmp_path / "checkpoint-1"
    assert json.loads((found / "state.json").read_text())["kl"] == {"beta": 0.05}
    with pytest.raises(CodealignError, match="fixed KL coefficient"):
        made("ppo", kl_coef=0.1).train(found)
    with pytest.raises(CodealignError, match="other weights"):
        made("ppo", value_model="critic").train(found)
