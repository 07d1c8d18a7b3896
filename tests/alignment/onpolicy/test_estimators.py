"""Algorithms through the trainer's whole path, on a model whose answers can all be written down.

The expected gradient is the sum over all answers of their probability times the gradient that the trainer
makes of them; the true one is autograd's, of the exact objective. Rewards are float32 in the trainer, hence
the tolerances.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.alignment.onpolicy import small
from tests.alignment.onpolicy.small import Scripted, answer, answers, gradient, logps_of, trainer

PROMPT = (1, 2)
ALL = list(answers())
WORTH = {
    small.text(ids): value for ids, value in zip(ALL, torch.linspace(-1, 2, len(ALL)).tolist(), strict=True)
}


def reward(completions: list[str], **columns: Any) -> list[float]:
    return [WORTH[text] for text in completions]


def moved_reference(t: Any) -> None:
    """The policy leaves its reference, so that the KL is not 0."""
    with torch.no_grad():
        for number, parameter in enumerate(t.module.policy.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter += 0.2 * noise.double()


def true_gradient(t: Any, temperature: float, beta: float = 0.0) -> Tensor:
    """Of minus (expected reward - beta x KL of whole answers), over all answers."""
    policy = t.module.policy
    reference = t.preparer.reference and t.preparer.reference._module.policy
    objective = torch.zeros((), dtype=torch.float64)
    for ids in ALL:
        logp = logps_of(policy, PROMPT, ids, temperature).sum()
        value = torch.tensor(WORTH[small.text(ids)], dtype=torch.float64)
        if beta:
            value = value - beta * (logp - logps_of(reference, PROMPT, ids, temperature).sum().detach())
        objective = objective + logp.exp() * value
    parameters = [p for p in t.module.parameters() if p.requires_grad]
    found = torch.autograd.grad(-objective, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    )


def probability(t: Any, ids: tuple[int, ...], temperature: float) -> float:
    with torch.no_grad():
        return float(logps_of(t.module.policy, PROMPT, ids, temperature).sum().exp())


def test_the_answers_are_all_there_are() -> None:
    t = trainer("remax", reward, prompts=[PROMPT])
    assert sum(probability(t, ids, 0.7) for ids in ALL) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("remax", {"kl_coef": 0.0}),
        ("remax", {"kl_coef": 0.3}),
        ("remax", {"kl_coef": 0.3, "policy_loss": "clipped"}),
        ("reinforce", {"kl_coef": 0.3, "baseline": "none"}),
        (
            "ppo",
            {"kl_coef": 0.3, "lam": 1.0, "whiten_advantages": False, "num_ppo_epochs": 1}
            | {"loss_aggregation": "sequence_sum", "value_model": "critic"},
        ),
    ],
)
def test_the_mean_gradient_of_one_sample_is_the_true_gradient(name: str, options: dict[str, Any]) -> None:
    temperature = 0.7
    t = trainer(name, reward, prompts=[PROMPT], temperature=temperature, **options)
    moved_reference(t)
    mode = [answer(small.greedy(t.module.policy, PROMPT))]
    mean: Tensor | float = 0.0
    for ids in ALL:
        t.sampler = Scripted([answer(ids)], mode)
        mean = mean + probability(t, ids, temperature) * gradient(t)
    t.calls.close()
    wanted = true_gradient(t, temperature, options["kl_coef"])
    policy = sum(p.numel() for p in t.module.policy.parameters())
    assert isinstance(mean, Tensor) and wanted.abs().max() > 0.01
    torch.testing.assert_close(mean[:policy], wanted[:policy], atol=3e-6, rtol=1e-5)


@pytest.mark.parametrize("loss", ["clipped", "reinforce"])
def test_the_mean_gradient_of_leave_one_out_is_the_true_gradient(loss: str) -> None:
    t = trainer("rloo", reward, prompts=[PROMPT], rows=2, num_generations=2, kl_coef=0.3, policy_loss=loss)
    moved_reference(t)
    mean: Tensor | float = 0.0
    for pair in product(ALL, repeat=2):
        t.sampler = Scripted([answer(ids) for ids in pair])
        weight = probability(t, pair[0], 1.0) * probability(t, pair[1], 1.0)
        mean = mean + weight * gradient(t)
    t.calls.close()
    torch.testing.assert_close(mean, true_gradient(t, 1.0, 0.3), atol=3e-6, rtol=1e-5)


def test_a_temperature_left_out_of_the_loss_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sum with log-probabilities at temperature 1 is another gradient: the test above sees it."""
    t = trainer("remax", reward, prompts=[PROMPT], temperature=0.7, kl_coef=0.0)
    mode = [answer(small.greedy(t.module.policy, PROMPT))]
    wanted = true_gradient(t, 0.7)
    t.module.temperature = 1.0
    mean: Tensor | float = 0.0
    for ids in ALL:
        t.sampler = Scripted([answer(ids)], mode)
        mean = mean + probability(t, ids, 0.7) * gradient(t)
    t.calls.close()
    assert isinstance(mean, Tensor) and (mean - wanted).abs().max() > 0.05 * wanted.abs().max()


def test_importance_weights_mend_samples_of_another_distribution() -> None:
    """Samples at temperature 1.5, corrected: token weights give the one-token gradient exactly."""
    ones = [(token,) for token in range(small.VOCABULARY)]
    worth = {small.text(ids): float(ids[0]) for ids in ones}
    t = trainer(
        "remax",
        lambda completions, **columns: [worth[c] for c in completions],
        prompts=[PROMPT],
        kl_coef=0.0,
        max_completion_length=1,
        importance_correction=True,
        importance_cap=1e6,
    )
    policy = t.module.policy
    mode = [answer(small.greedy(policy, PROMPT)[:1])]
    mean: Tensor | float = 0.0
    objective = torch.zeros((), dtype=torch.float64)
    for ids in ones:
        drawn = float(logps_of(policy, PROMPT, ids, 1.5).sum().detach())
        t.sampler = Scripted([answer(ids, [drawn])], mode)
        mean = mean + torch.tensor(drawn).exp() * gradient(t)
        objective = objective + logps_of(policy, PROMPT, ids, 1.0).sum().exp() * worth[small.text(ids)]
    t.calls.close()
    parameters = [p for p in t.module.parameters() if p.requires_grad]
    wanted = torch.cat([g.flatten() for g in torch.autograd.grad(-objective, parameters)])
    torch.testing.assert_close(mean, wanted, atol=3e-6, rtol=1e-5)
    assert {"importance/mean", "importance/p99", "importance/over_cap"} <= t.tally.means.keys()


# Batches


def eight() -> list[Any]:
    lengths = [(0,), (1, 0), (2, 1), (2, 0), (1, 1), (2, 0), (0,), (2, 2)]
    return [answer(ids) for ids in lengths]


PROMPTS = [(1, 2), (2,), (2, 2, 1, 1, 1), (1,)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("remax", {}),
        ("remax", {"loss_aggregation": "token_mean"}),
        ("reinforce", {}),
        ("rloo", {}),
        ("grpo", {}),
        ("grpo", {"scale_rewards": "none", "loss_aggregation": "constant"}),
        ("reinforce_pp", {}),
        ("reinforce_pp", {"group_baseline": True}),
        ("ppo", {"value_model": "head"}),
        ("ppo", {"value_model": "critic"}),
    ],
)
def test_a_batch_gives_one_gradient_however_it_is_cut(name: str, options: dict[str, Any]) -> None:
    found = []
    for rows, passes in ((8, 1), (2, 4), (1, 8)):
        mode = [answer((2, 0)), answer((0,)), answer((1, 1)), answer((1, 0))]
        given = {"num_generations": 2, "kl_coef": 0.1, **options}
        t = trainer(
            name, reward, sampler=Scripted(eight(), mode), rows=rows, passes=passes, prompts=PROMPTS, **given
        )
        moved_reference(t)
        found.append(gradient(t))
        t.calls.close()
    assert found[0].abs().max() > 1e-3
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize(("name", "same"), [("remax", True), ("rloo", True), ("reinforce", False)])
def test_an_offset_of_each_prompt_changes_advantages_only_where_nothing_is_compared_within_it(
    name: str, same: bool
) -> None:
    def shifted(completions: list[str], number: list[int], **columns: Any) -> list[float]:
        return [WORTH[c] + 10.0 * n for c, n in zip(completions, number, strict=True)]

    found = []
    for paid in (reward, shifted):
        mode = [answer((2, 0)), answer((0,)), answer((1, 1)), answer((1, 0))]
        t = trainer(
            name,
            paid,
            sampler=Scripted(eight(), mode),
            rows=8,
            prompts=PROMPTS,
            num_generations=2,
            kl_coef=0.0,
        )
        e = t.preparer.experience(t.draw(0), 0.0, t.tally)
        t.calls.close()
        assert e.advantages is not None
        found.append(e.advantages)
    close = torch.allclose(found[0], found[1], atol=1e-5)
    assert close == same and found[0].abs().max() > 0.1


# Rows without a reward


@pytest.mark.parametrize("name", ["remax", "rloo", "grpo", "reinforce", "reinforce_pp", "ppo"])
def test_a_row_without_a_reward_teaches_nothing_whatever_it_holds(name: str) -> None:
    def partly(completions: list[str], **columns: Any) -> list[float | None]:
        values: list[float | None] = [WORTH[c] for c in completions]
        if len(values) == 8:
            values[3] = None
        return values

    found = []
    for ids in ((2, 0), (1, 2)):
        samples = eight()
        samples[3] = answer(ids)
        mode = [answer((2, 0)), answer((0,)), answer((1, 1)), answer((1, 0))]
        t = trainer(
            name,
            partly,
            sampler=Scripted(samples, mode),
            rows=8,
            prompts=PROMPTS,
            num_generations=2,
            kl_coef=0.1,
        )
        moved_reference(t)
        found.append(gradient(t))
        t.calls.close()
    assert found[0].abs().max() > 1e-3
    torch.testing.assert_close(found[0], found[1], atol=1e-12, rtol=1e-9)


def test_a_greedy_answer_without_a_reward_drops_its_prompt_and_the_others_count_whole() -> None:
    def no_second_mode(completions: list[str], **columns: Any) -> list[float | None]:
        values: list[float | None] = [WORTH[c] for c in completions]
        if len(values) == 4:
            values[1] = None
        return values

    mode = [answer((2, 0)), answer((0,)), answer((1, 1)), answer((1, 0))]
    common: dict[str, Any] = {"num_generations": 2, "kl_coef": 0.0}
    dropped = trainer(
        "remax", no_second_mode, sampler=Scripted(eight(), mode), rows=8, prompts=PROMPTS, **common
    )
    kept = [row for i, row in enumerate(eight()) if i not in (2, 3)]
    alone = trainer(
        "remax",
        reward,
        sampler=Scripted(kept, [mode[0], mode[2], mode[3]]),
        rows=6,
        prompts=PROMPTS,
        **common,
    )
    # Both must lay the same answers behind the same prompts.
    dropped.order.step = lambda number: [0, 1, 2, 3]  # type: ignore[method-assign]
    alone.order.step = lambda number: [0, 2, 3]  # type: ignore[method-assign]
    torch.testing.assert_close(gradient(dropped), gradient(alone), atol=1e-9, rtol=1e-7)
    dropped.calls.close()
    alone.calls.close()
