"""Several test suites as an ensemble."""

from __future__ import annotations

import asyncio

import pytest

from alignment.rewards.pool import Pool
from alignment.rewards.suites import SuitesReward
from codegen_eval.errors import CodealignError
from tests.alignment.rewards.problems import DOUBLE, FakePool

# Right; right on the shown example alone; wrong for negative numbers.
ANSWERS = ["    return 2 * x\n", "    return 4\n", "    return abs(2 * x)\n"]
RATES = [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.5)]


@pytest.mark.parametrize("objective", ["mean", "wco", "uwo"])
def test_suites_combine_like_members_of_an_ensemble(objective: str, pool: Pool) -> None:
    reward = SuitesReward(
        suites=["shown", "base", "plus"],
        objective=objective,  # type: ignore[arg-type]
        lam=0.5,
        problems=[DOUBLE],
        preset="pass_rate",
        pool=pool,
    )
    logged: dict[str, float] = {}
    ids = [DOUBLE.task_id] * 3
    found = asyncio.run(reward([DOUBLE.prompt] * 3, ANSWERS, task_id=ids, log_metric=logged.__setitem__))
    expected = []
    for rates in RATES:
        mean = sum(rates) / 3
        variance = sum((rate - mean) ** 2 for rate in rates) / 3
        expected.append({"mean": mean, "wco": min(rates), "uwo": mean - 0.5 * variance}[objective])
    assert found == pytest.approx(expected)
    assert logged["ensemble/plus/score"] == pytest.approx(0.5)
    assert logged["execution/shown/passed"] == 1.0


def test_a_suite_that_was_lost_blanks_the_row() -> None:
    fake = FakePool({"": None})
    reward = SuitesReward(suites=["shown", "base"], problems=[DOUBLE], pool=fake)
    found = asyncio.run(reward([DOUBLE.prompt], ANSWERS[:1], task_id=[DOUBLE.task_id]))
    assert found == [None]


def test_suites_given_twice_are_refused() -> None:
    with pytest.raises(CodealignError, match="given twice"):
        SuitesReward(suites=["shown", "shown"], problems=[DOUBLE])
