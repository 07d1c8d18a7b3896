"""KL penalties and controllers, RRHF, the execution reward."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from alignment.kl import entropy, exact_kl, kl_penalty, kl_tokens
from alignment.onpolicy.execution import PRESETS, STATUSES, ExecutionReward, execution_reward
from alignment.onpolicy.kl_control import AdaptiveKL, FixedKL, adapted_beta
from alignment.onpolicy.rrhf import rrhf_loss
from codegen_eval.errors import CodealignError


def test_penalties_sum_to_the_end_or_stand_alone() -> None:
    kl, mask = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([[1, 1, 1, 0]])
    assert kl_penalty(kl, mask).tolist() == [[7, 6, 4, 0]]
    assert kl_penalty(kl, mask, "one_step").tolist() == [[1, 2, 4, 0]]
    assert kl_penalty(kl, mask, "none").tolist() == [[0, 0, 0, 0]]
    with pytest.raises(CodealignError, match="did you mean 'one_step'"):
        kl_penalty(kl, mask, "onestep")  # type: ignore[arg-type]


def test_exact_kl_is_that_of_the_definition() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert exact_kl(p.log() + 3, q.log() - 1).item() == pytest.approx(expected, rel=1e-5)
    assert entropy(p.log()).item() == pytest.approx(1.5 * math.log(2), rel=1e-5)
    with pytest.raises(CodealignError, match="differ in shape"):
        exact_kl(torch.zeros(3), torch.zeros(4))


def test_clamped_k3_is_bounded_and_otherwise_the_same() -> None:
    v = torch.tensor([-200.0, -1.0, 0.0, 1.0])
    found = kl_tokens(v, torch.zeros(4), "k3", clamp=True)
    assert found[0] == 10
    torch.testing.assert_close(found[1:], kl_tokens(v, torch.zeros(4), "k3")[1:])
    with pytest.raises(CodealignError, match="clamp is for k3"):
        kl_tokens(v, torch.zeros(4), "k1", clamp=True)


def test_beta_follows_the_kl_and_stays_at_the_target() -> None:
    assert adapted_beta(0.2, 6.0, 6.0, 100, 10_000) == 0.2
    assert adapted_beta(0.2, 600.0, 6.0, 100, 10_000) == pytest.approx(0.2 * 1.002)
    assert adapted_beta(0.2, -5.0, 6.0, 100, 10_000) == pytest.approx(0.2 * 0.998)
    assert adapted_beta(0.2, 6.6, 6.0, 100, 10_000) == pytest.approx(0.2 * 1.001)
    with pytest.raises(CodealignError, match="lower the learning rate"):
        adapted_beta(0.2, math.nan, 6.0, 100, 10_000)


def test_controllers_go_on_from_their_state() -> None:
    one, other = AdaptiveKL(horizon=1000), AdaptiveKL(horizon=1000)
    for kl in (9.0, 3.0, 30.0):
        one.update(kl, 64)
    other.load_state_dict(one.state_dict())
    one.update(1.0, 64)
    other.update(1.0, 64)
    assert one == other and one.beta != 0.2
    fixed = FixedKL(0.05)
    fixed.update(99.0, 64)
    assert fixed.beta == 0.05
    with pytest.raises(CodealignError, match=r"0\.05, the config 0\.1"):
        FixedKL(0.1).load_state_dict(fixed.state_dict())
    for make in (lambda: FixedKL(-1.0), lambda: AdaptiveKL(target=0.0)):
        with pytest.raises(CodealignError):
            make()
    with pytest.raises(CodealignError, match="more than the horizon"):
        AdaptiveKL(horizon=10).update(1.0, 64)


def test_rrhf_ranks_every_ordered_pair_once() -> None:
    logps = torch.tensor([-4.0, -2.0, -9.0, -3.0], dtype=torch.float64, requires_grad=True)
    lengths, rewards = torch.tensor([4, 1, 3, 2]), torch.tensor([0.0, 1.0, 1.0, 2.0])
    found = rrhf_loss(logps, lengths, rewards, rank_weight=0.5)
    p = (logps.detach() / lengths).tolist()
    pairs = itertools.permutations(range(4), 2)
    expected = sum(max(0.0, p[i] - p[j]) for i, j in pairs if rewards[i] < rewards[j])
    assert found.rank_loss.item() == pytest.approx(expected)
    assert found.best == 3 and found.loss.item() == pytest.approx(0.5 * expected + 3.0)
    (gradient,) = torch.autograd.grad(found.rank_loss, logps)
    assert gradient[2] < 0, "the better answer of lower score is pulled up"
    with pytest.raises(CodealignError, match="candidate 1 has 0 tokens"):
        rrhf_loss(logps, torch.tensor([4, 0, 3, 2]), rewards)


@pytest.mark.parametrize("preset", PRESETS)
def test_any_right_program_is_worth_more_than_any_wrong_one(preset: str) -> None:
    table = PRESETS[preset]
    right = [execution_reward(table, "passed", 5, 5, t, 1.0) for t in (1e-6, 1.0, 1e6)]
    wrong = [execution_reward(table, status, 4, 5) for status in STATUSES if status != "passed"]
    assert min(right) > max(wrong)  # type: ignore[type-var]


def test_a_table_that_could_prefer_a_wrong_program_is_refused() -> None:
    ExecutionReward(partial_credit=0.8, efficiency_weight=0.5)
    for options in (
        {"partial_credit": 0.81, "efficiency_weight": 0.5},
        {"efficiency_weight": 2.0},
        {"timeout": 1.0},
    ):
        with pytest.raises(CodealignError, match="slow right program"):
            ExecutionReward(**options)
    with pytest.raises(CodealignError, match="finite"):
        ExecutionReward(passed=math.nan)


def test_a_broken_sandbox_is_no_reward_at_all() -> None:
    assert execution_reward(PRESETS["coderl"], "infra_error", 0, 5) is None


def test_speed_counts_symmetrically_within_its_bounds_and_not_within_noise() -> None:
    table = ExecutionReward(efficiency_weight=0.5, noise_band=0.1)
    gains = [execution_reward(table, "passed", 1, 1, t, 1.0) for t in (0.5, 2.0, 0.01, 100.0, 1.05)]
    assert gains == pytest.approx([1.5, 0.5, 1.5, 0.5, 1.0])
    assert execution_reward(table, "passed", 1, 1, None, 1.0) == 1.0


def test_reports_that_contradict_themselves_are_refused() -> None:
    table = PRESETS["coderl"]
    with pytest.raises(CodealignError, match="does not fit 1 of 2"):
        execution_reward(table, "passed", 1, 2)
    with pytest.raises(CodealignError, match="did you mean 'timeout'"):
        execution_reward(table, "time_out", 1, 2)
    with pytest.raises(CodealignError, match="above 0 s"):
        execution_reward(table, "passed", 2, 2, 0.0, 1.0)
