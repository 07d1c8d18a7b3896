"""Styles: the embedded episode task, and thinking in tags about questions with a number as answer."""

from __future__ import annotations

import functools
import re
from decimal import Decimal, InvalidOperation

from alignment.mrt.traces import Question, Style, split_thinking
from codegen_eval.errors import CodealignError
from codegen_eval.tasks import episodes

TIME_IS_UP = "\n\nTime is up.\n\n"
WAITS = ("\n\nWait,", "\n\nBut wait,", "\n\nAlternatively,", "\n\nBut hold on,")
"""What MRT's evaluation appends in turn to make a model think on."""

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def episode_style() -> Style:
    """The episode task: `#` ends thinking, an episode has three characters."""
    return Style(
        close=episodes.CLOSE,
        stop=episodes.CLOSE,
        split=episodes.episode_ends,
        grade=lambda question, given: float(given == question.answer),
    )


def episode_questions(task: episodes.EpisodeTask, seed: int, count: int) -> list[Question]:
    """Problems of the episode task; the prompt is the key."""
    prompts = episodes.problems(task, seed, count)
    return [Question(prompt, prompt, episodes.answer(prompt)) for prompt in prompts]


def thinking_style(
    close: str = "</think>", *, stop: str | None = None, max_steps: int = 49, group_size: int = 1
) -> Style:
    """Thinking in paragraphs, up to `close`, about questions whose answer is a number.

    Args:
        close: What the model writes to end its thinking.
        stop: The forced stop; default "Time is up." and the close.
        max_steps: Most cuts into episodes.
        group_size: Neighbouring episodes that are joined.
    """
    return Style(
        close=close,
        stop=TIME_IS_UP + close if stop is None else stop,
        split=functools.partial(split_thinking, max_steps=max_steps, group_size=group_size),
        grade=number_grade,
        extensions=WAITS,
    )


def number_grade(question: Question, given: str) -> float:
    """1.0 if the last number of an answer equals the last number of the right one, else 0.0.

    Raises:
        CodealignError: If the right answer holds no number.
    """
    right = last_number(question.answer)
    if right is None:
        raise CodealignError(f"the answer of {question.key!r} holds no number: {question.answer[-60:]!r}")
    return float(last_number(given) == right)


def last_number(text: str) -> Decimal | None:
    r"""The last number of a text, commas between digits left out; None where there is none.

    GSM8K's solutions end with `#### 1,234`; models write `\boxed{1234}` or `$1234.00`. All are numbers.
    """
    found = _NUMBER.findall(text)
    try:
        return Decimal(found[-1].replace(",", "")) if found else None
    except InvalidOperation:  # more digits than a Decimal takes
        return None
