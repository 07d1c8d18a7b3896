"""Terms for length, ending and KL."""

from __future__ import annotations

import math

import pytest

from alignment.rewards.shaping import finished, length, minus_kl, overlong
from codegen_eval.errors import CodealignError


def test_length_is_punished_linearly_within_the_buffer() -> None:
    # By hand from DAPO's eq. 13 with L_max 100, L_cache 20.
    assert [overlong(n, 100, 20) for n in (0, 80, 81, 90, 100, 101, 10**6)] == pytest.approx(
        [0.0, 0.0, -0.05, -0.5, -1.0, -1.0, -1.0]
    )


def test_rewards_on_tokens_need_them() -> None:
    for reward in (length(limit=4, buffer=2), finished(eos_token_id=[0, 2])):
        with pytest.raises(CodealignError, match="must give completion_ids"):
            reward(["p"], ["c"])
    assert finished(eos_token_id=[0, 2])(["p"] * 4, [""] * 4, [[5, 2], [2, 5], [], [0]]) == [
        1.0,
        0.0,
        0.0,
        1.0,
    ]
    for bad in ([], [True], ["a"]):
        with pytest.raises(CodealignError, match="ids, of end tokens"):
            finished(eos_token_id=bad)  # type: ignore[arg-type]


def test_kl_comes_off_by_sequence_and_nothing_stays_nothing() -> None:
    assert minus_kl([1.0, None], [-3.0, None], [-5.0, None], 0.1) == [pytest.approx(0.8), None]
    assert minus_kl([1.0], [None], [None], 0.0) == [1.0]
    with pytest.raises(CodealignError, match=r"sample 1 has log-probabilities -1\.0 and None"):
        minus_kl([1.0, 1.0], [-1.0, -1.0], [-1.0, None], 0.1)
    with pytest.raises(CodealignError, match="sample 0"):
        minus_kl([1.0], [-math.inf], [-1.0], 0.1)
    with pytest.raises(CodealignError, match="0 or more"):
        minus_kl([1.0], [-1.0], [-1.0], -0.1)
