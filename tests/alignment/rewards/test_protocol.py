"""Calling rewards: functions, coroutines, objects; and what they must not return."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import numpy as np
import pytest

from alignment.rewards.protocol import ask, checked, close, column, is_async, name_of, text_of
from codegen_eval.errors import CodealignError


def plain(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
    return [float(len(c)) if c else None for c in completions]


class Later:
    async def __call__(self, prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        await asyncio.sleep(0)
        return [1.0] * len(completions)


def test_functions_coroutines_and_objects_are_asked_alike() -> None:
    assert asyncio.run(ask(plain, ["p", "p"], ["ab", ""])) == [2.0, None]
    assert asyncio.run(ask(Later(), ["p"], ["ab"])) == [1.0]
    assert [is_async(r) for r in (plain, Later(), functools.partial(Later()), Later().__call__)] == [
        False,
        True,
        True,
        True,
    ]
    assert [name_of(r) for r in (plain, functools.partial(plain, x=1), Later())] == [
        "plain",
        "plain",
        "Later",
    ]


def test_numbers_of_any_library_become_floats() -> None:
    assert checked(np.array([1, 2]), 2, "r") == [1.0, 2.0]
    assert checked((True, np.float32(0.5), None), 3, "r") == [1.0, 0.5, None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "'r' returned 1 values for 2 completions"),
        (3.0, "returned a float"),
        ("ab", "returned a str"),
        ({0: 1.0, 1: 2.0}, "returned a dict"),
        ([1.0, float("nan")], "gave completion 1 the reward nan"),
        ([float("inf"), 1.0], "gave completion 0 the reward inf"),
        ([1.0, "0.5"], "gave completion 1 a str"),
        ([[1.0], 1.0], "gave completion 0 a list"),
    ],
)
def test_what_is_no_reward_is_refused_by_place(given: Any, message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        checked(given, 2, "r")


def test_a_column_that_is_missing_is_named_with_those_there_are() -> None:
    assert column({"task_id": ["a"]}, "task_id", 1, "why") == ["a"]
    with pytest.raises(CodealignError, match=r"no column 'task_id', for this; it has answer, level"):
        column({"level": [1], "answer": [2], "trainer_state": object()}, "task_id", 1, "for this")
    with pytest.raises(CodealignError, match="column 'task_id' has 1 values for 2"):
        column({"task_id": ["a"]}, "task_id", 2, "why")


def test_text_is_the_last_message_and_parts_are_joined() -> None:
    assert text_of([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]) == "b"
    assert text_of([{"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}]) == "ab"
    assert text_of([{"role": "assistant", "content": None}]) == ""
    for bad in (3, [], [3], {"content": "a"}):
        with pytest.raises(CodealignError, match="without text"):
            text_of(bad)


def test_only_what_holds_something_is_closed() -> None:
    close(plain)
    held = Later()
    held.close = lambda: setattr(held, "closed", True)  # type: ignore[attr-defined]
    close(held)
    assert held.closed  # type: ignore[attr-defined]
