"""What a reward is, for our trainers and for TRL's `reward_funcs`, and how one is called.

    f(prompts, completions, completion_ids=None, **columns) -> list[float | None]      or a coroutine of it

One number a completion; None where it cannot be told (a broken sandbox says nothing of a program): such a row
has no reward at all, never 0. `columns` holds the data set's other columns, each as long as `prompts`, and
what a trainer gives besides: `trainer_state`, `log_extra(column, values)`, `log_metric(name, value)`; any of
them may be absent. The name in logs is `__name__`, else the class's.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from codegen_eval.errors import CodealignError

Rewards = list[float | None]
Reward = Callable[..., Rewards | Awaitable[Rewards]]
LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[Any]], None]


def name_of(reward: Reward) -> str:
    """The name under which a reward is logged; `functools.partial` is looked through."""
    function: Any = reward
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def is_async(reward: Reward) -> bool:
    """Whether a call gives a coroutine: an `async def`, or an object whose `__call__` is one."""
    function: Any = reward
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(function, "__call__", None)  # noqa: B004 - its kind is asked, not whether it is there
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


async def ask(
    reward: Reward,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **columns: Any,
) -> Rewards:
    """One checked reward a completion, of a function or a coroutine function (a function blocks the loop).

    Raises:
        CodealignError: If the answer is not one finite number or None for each completion.
        Exception: Whatever the reward raises.
    """
    given = reward(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
    if inspect.isawaitable(given):
        given = await given
    return checked(given, len(completions), name_of(reward))


def checked(given: Any, size: int, name: str) -> Rewards:
    """Rewards as plain floats and None.

    Args:
        given: What a reward returned: a list, an array or a tensor.
        size: How many completions there were.
        name: Of the reward, for messages.

    Raises:
        CodealignError: For another length, something that is no number, NaN or an infinite value.
    """
    if isinstance(given, str | bytes | dict) or not hasattr(given, "__len__"):
        raise CodealignError(
            f"reward {name!r} returned a {type(given).__name__}; return a list with one number a completion"
        )
    if len(given) != size:
        raise CodealignError(f"reward {name!r} returned {len(given)} values for {size} completions")
    rewards: Rewards = []
    for place, value in enumerate(given):
        if value is None:
            rewards.append(None)
            continue
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError):
            raise CodealignError(
                f"reward {name!r} gave completion {place} a {type(value).__name__}; give a number or None"
            ) from None
        if not math.isfinite(number):
            raise CodealignError(
                f"reward {name!r} gave completion {place} the reward {number}; give a finite number, or None "
                "where there is none"
            )
        rewards.append(number)
    return rewards


def column(columns: dict[str, Any], name: str, size: int, why: str) -> list[Any]:
    """A column that a reward cannot do without.

    Args:
        columns: As the reward was given them.
        name: Of the column.
        size: How many completions there are.
        why: What the column is for, for the message.

    Raises:
        CodealignError: If it is absent or of another length.
    """
    values = columns.get(name)
    if values is None:
        there = sorted(key for key, value in columns.items() if isinstance(value, list))
        raise CodealignError(
            f"the data set has no column {name!r}, {why}; it has {', '.join(there) or 'no other column'}"
        )
    if len(values) != size:
        raise CodealignError(f"column {name!r} has {len(values)} values for {size} completions")
    return list(values)


def text_of(message: Any) -> str:
    """A prompt's or completion's text: itself, or the last message's content of a conversation.

    Raises:
        CodealignError: For anything else.
    """
    if isinstance(message, str):
        return message
    if isinstance(message, Sequence) and message and isinstance(message[-1], dict):
        content = message[-1].get("content")
        if isinstance(content, str):
            return content
        if isinstance(content, list):
            return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        if content is None:  # an answer of tool calls alone has no text
            return ""
    raise CodealignError(
        f"a prompt or completion is a {type(message).__name__} without text; give a text or a list of "
        "messages"
    )


def close(reward: Any) -> None:
    """Frees what a reward holds (worker processes, connections), where it holds anything."""
    ending = getattr(reward, "close", None)
    if callable(ending):
        ending()
