"""Stragglers: flagged by work of their own, not by waiting for others."""

from __future__ import annotations

import pytest

from alignment.health.stragglers import Persistent, Straggler, stragglers
from codegen_eval.phases import waiting


def rows(**times: list[float]) -> dict[int, dict[str, float]]:
    count = len(next(iter(times.values())))
    return {rank: {phase: values[rank] for phase, values in times.items()} for rank in range(count)}


def test_the_slow_rank_is_named_with_its_phase_and_the_waiting_ones_are_not() -> None:
    found = stragglers(rows(forward=[0.1, 0.1, 0.5, 0.11], backward=[0.9, 0.9, 0.5, 0.9]))
    assert found == [Straggler(2, "forward", 0.5, 0.1)]


def test_equal_ranks_and_small_differences_are_nobodys_fault() -> None:
    assert stragglers(rows(forward=[0.1] * 8)) == []
    assert stragglers(rows(forward=[0.100, 0.104, 0.098, 0.101])) == []
    assert stragglers(rows(forward=[0.001, 0.001, 0.008, 0.001])) == [], "nobody waits noticeably"
    assert stragglers({0: {"forward": 1.0}}) == [] and stragglers({}) == []


def test_one_of_two_is_told_by_the_ratio() -> None:
    assert stragglers(rows(reward=[1.0, 2.0])) == [Straggler(1, "reward", 2.0, 1.0)]
    assert stragglers(rows(reward=[1.0, 1.05])) == []


def test_scattered_times_make_no_straggler_of_the_slowest() -> None:
    assert stragglers(rows(generate=[1.0, 1.6, 2.1, 2.6, 3.1])) == []


def test_the_share_that_each_rank_waits_follows_from_the_slowest_ones_work() -> None:
    shares = waiting(rows(data=[0.1, 0.1], forward=[0.2, 0.6], backward=[1.0, 0.6]), 1.6)
    assert shares == {0: pytest.approx(0.4 / 1.6), 1: 0.0}
    assert waiting({}, 1.0) == {} and waiting(rows(data=[1.0]), 0.0) == {0: 0.0}


def test_a_straggler_is_named_once_after_three_looks_running() -> None:
    persistent, slow = Persistent(), [Straggler(1, "data", 2.0, 1.0)]
    assert [persistent(slow) for _ in range(5)] == [[], [], slow, [], []]
    persistent([])
    assert [persistent(slow) for _ in range(3)] == [[], [], slow]
