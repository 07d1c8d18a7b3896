"""Progress telescopes; what is constant in a group teaches nothing; unknown stops are left out."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mrt.progress import (
    bonus_rewards,
    j_curve,
    mixed_group,
    progress,
    rewards_to_go,
    standard_error,
    star_cut,
    star_keep,
    termination_advantages,
    trace_reward,
)
from codegen_eval.errors import CodealignError

RNG = np.random.default_rng(0)


def test_progress_telescopes_and_the_first_reward_to_go_is_the_scalar() -> None:
    j = RNG.random(9)
    gains = progress(j)
    assert gains.sum() == pytest.approx(j[-1] - j[0])
    to_go = rewards_to_go(1.0, gains, 0.7)
    assert to_go[0] == pytest.approx(trace_reward(1.0, gains, 0.7))
    assert to_go[-1] == pytest.approx(1 + 0.7 * gains[-1])
    assert progress([0.5]).size == 0 and trace_reward(1.0, [], 0.7) == 1.0


def test_stops_of_unknown_reward_are_left_out_and_never_count_as_wrong() -> None:
    assert j_curve([[None, 1, 0], [1, None, None]]).tolist() == [0.5, 1.0]
    with pytest.raises(CodealignError, match="prefix 1 has no forced stop"):
        j_curve([[1], [None]])
    with pytest.raises(CodealignError, match="outside"):
        j_curve([[2.0]])


def test_the_standard_error_is_that_of_a_mean_of_coins() -> None:
    draws = (RNG.random((20_000, 8)) < 0.3).mean(axis=1)
    assert standard_error(0.3, 8) == pytest.approx(draws.std(), rel=0.03)
    assert standard_error(0.5, 8) == pytest.approx(0.5 / np.sqrt(8))


def test_star_keeps_a_trace_only_if_thinking_helped_and_a_stop_was_right() -> None:
    right, wrong = [1, 0], [0, 0]
    for stops, cut, keep in (
        ([wrong, right, right], 1, True),
        ([right, right, wrong], 0, False),
        ([wrong, wrong], 0, False),
        ([wrong, [0.5, 0.5]], 1, False),
    ):
        j = j_curve(stops)
        assert (star_cut(j), star_keep(j, stops)) == (cut, keep)


def test_a_baseline_that_is_constant_in_the_group_cancels_and_form_c_is_not_one() -> None:
    import torch

    from alignment.onpolicy.advantages import rloo_advantages

    outcomes, ends = RNG.integers(0, 2, 6).astype(float), RNG.random(6)
    one, other = (rloo_advantages(torch.tensor(bonus_rewards(outcomes, ends, j, 1.0)), 6) for j in (0.1, 0.9))
    torch.testing.assert_close(one, other)
    failed = np.zeros(4)
    assert (termination_advantages(failed, [1, 1, 1, 0]) == -0.75).all()
    assert rloo_advantages(torch.tensor(failed), 4).abs().max() == 0
    mixed = rloo_advantages(torch.tensor(mixed_group(failed, [1, 1])), 6)
    assert (mixed[:4] < 0).all() and (mixed[4:] > 0).all()


def test_groups_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CodealignError, match="one J a rollout"):
        bonus_rewards([1, 0], [0.5], 0.1, 1.0)
    with pytest.raises(CodealignError, match="needs the stops of each"):
        star_keep([0.1, 0.2], [[0]])
    with pytest.raises(CodealignError, match="no forced stop"):
        termination_advantages([1, 0], [])
