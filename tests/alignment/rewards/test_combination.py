"""Weighted sums of rewards and rewards by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from alignment.rewards.code import CodeReward
from alignment.rewards.combination import Part, Weighted
from alignment.rewards.registry import OURS, REWARDS, make_reward, make_rewards, names
from codegen_eval.errors import CodealignError


def length(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(len(c)) for c in completions]


async def vowels(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
    await asyncio.sleep(0)
    return [None if "?" in c else float(sum(c.count(v) for v in "aeiou")) for c in completions]


def run(reward: Any, completions: list[str], **columns: Any) -> list[float | None]:
    found: list[float | None] = asyncio.run(reward(["p"] * len(completions), completions, **columns))
    return found


def test_parts_add_with_weights_and_one_missing_part_blanks_the_row() -> None:
    reward = Weighted([Part("length", length, -0.5), Part("vowels", vowels, 2.0)])
    logged: dict[str, float] = {}
    rows: dict[str, list[Any]] = {}
    found = run(reward, ["ae", "xyz", "??"], log_metric=logged.__setitem__, log_extra=rows.__setitem__)
    assert found == [3.0, -1.5, None]
    assert logged == {"reward/length": pytest.approx(7 / 3), "reward/vowels": 1.0}
    assert rows == {"reward_length": [2.0, 3.0, 2.0], "reward_vowels": [2.0, 0.0, None]}
    assert reward.__name__ == "length+vowels"


def test_a_part_that_fails_is_named_and_ends_the_others() -> None:
    ended = []

    async def endless(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)
        return []

    def short(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return []

    reward = Weighted([Part("endless", endless), Part("short", short)])
    with pytest.raises(CodealignError, match="reward 'short' returned 0 values for 1"):
        run(reward, ["a"])
    assert ended == [True]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "at least one part"),
        ([Part("a", length), Part("a", vowels)], "share a name"),
        ([Part("a", length, 0.0)], "has weight 0"),
        ([Part("a", length, float("nan"))], "give a finite number"),
        ([Part("a", length, "0.5")], "weight '0.5'"),  # type: ignore[arg-type]
        ([Part("a", 3)], "cannot be called"),  # type: ignore[arg-type]
    ],
)
def test_sums_that_mean_nothing_are_refused(parts: list[Part], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        Weighted(parts)


def test_recipes_name_rewards_alone_or_with_weights_and_options() -> None:
    alone = make_rewards({"name": "length", "limit": 10, "buffer": 5})
    ids = [[1] * 8]
    assert alone(["p"], ["c"], completion_ids=ids) == [pytest.approx(-0.6)]
    both = make_rewards(
        [
            {"name": "length", "limit": 10, "buffer": 5, "weight": 0.5, "label": "short"},
            {"name": "finished", "eos_token_id": 1},
        ]
    )
    assert run(both, ["c"], completion_ids=ids) == [pytest.approx(0.7)]
    halved = make_rewards({"name": "finished", "eos_token_id": 1, "weight": 0.5})
    assert run(halved, ["c"], completion_ids=ids) == [0.5]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no reward"),
        (["executon"], "unknown reward 'executon'; did you mean 'execution'"),
        ([{"weight": 1.0}], "is given by its name"),
        ([3], "is given by its name"),
        ([{"name": "length", "limit": 10}], "reward 'length' needs buffer"),
        ([{"name": "length", "limit": 10, "bufer": 5}], "did you mean 'buffer'"),
        (
            [{"name": "execution", "prset": "binary"}],
            "option of reward 'execution' 'prset'; did you mean 'preset'",
        ),
        ([{"name": "suites", "suites": ["shown", "hidden"], "benchmrk": "x"}], "did you mean 'benchmark'"),
        ([{"name": "suites", "suites": ["shown"]}], "two or more pools"),
        ([{"name": "length", "limit": 10, "buffer": 11}], "lies within the limit"),
    ],
)
def test_recipes_with_mistakes_are_refused_with_the_nearest_name(specs: Any, message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        make_rewards(specs)


def test_every_name_of_ours_is_registered_where_the_table_says() -> None:
    assert set(OURS) <= set(names())
    for name in OURS:
        with pytest.raises(CodealignError, match=r"option of reward|needs suites"):
            make_reward(name, {"no_such_option": 1})
    assert REWARDS.get("execution") is CodeReward


def test_others_join_by_the_registry() -> None:
    REWARDS.register("of_a_test")(
        lambda factor=1.0: lambda prompts, completions, **_: [factor] * len(prompts)
    )
    assert make_reward("of_a_test", {"factor": 3.0})(["p"], ["c"]) == [3.0]
    with pytest.raises(CodealignError, match="did you mean 'factor'"):
        make_reward("of_a_test", {"facto": 3.0})
