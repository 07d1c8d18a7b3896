"""The running sum: add digits one by one, with planted misconceptions in the text that a model learns from.

A question is some digits and `=`; the answer is the running total after each further digit, two characters
each, units first: `345=7021` says 3 + 4 = 7, 7 + 5 = 12. Training traces hold mistakes: some entries (units
of the total, digit) of the addition table are written wrong, always by the same wrong digit, with a
probability of their own, and the trace goes on from the wrong total. So a model's accuracy is set by the
table and not by when its training was stopped, and it is known at which steps an answer fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError

EQUALS, END = 10, 11
ALPHABET = "0123456789=;"
"""Characters by token id; `;` ends and pads."""

STEP = 2
"""Characters of a step."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Misconceptions:
    """The addition table of the training traces.

    Attributes:
        wrong: (10, 10) by units of the total and digit: the wrong units digit that is written.
        chance: (10, 10) how often it is.
    """

    wrong: Ints
    chance: NDArray[np.float64]


def plant(
    seed: int, *, sure: int = 10, unsure: int = 40, chances: tuple[float, float] = (0.7, 0.3)
) -> Misconceptions:
    """A table with `sure` entries that a model gets wrong and `unsure` ones that it may get wrong.

    The defaults are those of design B of the study (docs/mcts_dpo.md): entries of the first kind are wrong
    more often than not, so that greedy answers are wrong there; of the second kind samples are.

    Raises:
        CodealignError: For more entries than the table has, or chances outside [0, 1].
    """
    if not 0 <= sure + unsure <= 100 or min(sure, unsure) < 0:
        raise CodealignError(f"{sure} + {unsure} misconceptions do not fit a table of 100 entries")
    if not all(0 <= chance <= 1 for chance in chances):
        raise CodealignError(f"chances {chances} must lie in [0, 1]")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    entries = rng.permutation(100)
    chance = np.zeros(100)
    chance[entries[:sure]], chance[entries[sure : sure + unsure]] = chances
    right = np.add.outer(np.arange(10), np.arange(10)) % 10
    wrong = (right + rng.integers(1, 10, size=(10, 10))) % 10
    return Misconceptions(wrong, chance.reshape(10, 10))


def questions(rng: np.random.Generator, count: int, digits: int = 9) -> Ints:
    """Digits of `count` questions, (count, digits)."""
    if digits < 2:
        raise CodealignError(f"digits is {digits}: a sum needs 2 or more")
    return rng.integers(0, 10, size=(count, digits))


def traces(digits: Ints, table: Misconceptions, rng: np.random.Generator) -> Ints:
    """Answers as the training text has them, (questions, 2 x (digits - 1)), by token id."""
    total = digits[:, 0].copy()
    written = []
    for column in digits[:, 1:].T:
        entry = total % 10, column
        total = (total + column) % 100
        slips = rng.random(len(total)) < table.chance[entry]
        total = np.where(slips, total - total % 10 + table.wrong[entry], total)
        written += [total % 10, total // 10]
    return np.stack(written, axis=1)


def question_text(digits: Ints) -> str:
    """The prompt of one question."""
    return "".join(str(int(digit)) for digit in digits) + "="


def is_right(question: str, answer: str) -> bool:
    """Whether the last total of an answer is the sum; an answer that is cut short or goes on is wrong.

    Args:
        question: As `question_text` writes it.
        answer: What follows it, without the end character.
    """
    digits = [int(letter) for letter in question.removesuffix("=")]
    if len(answer) != STEP * (len(digits) - 1) or not answer.isdecimal() or not answer.isascii():
        return False
    return int(answer[-1] + answer[-2]) == sum(digits)


def first_slip(question: str, answer: str) -> int | None:
    """The number of the first step whose total does not follow from the one before; None without one."""
    digits = [int(letter) for letter in question.removesuffix("=")]
    total = digits[0]
    for step, digit in enumerate(digits[1:]):
        total = (total + digit) % 100
        if answer[STEP * step : STEP * (step + 1)] != f"{total % 10}{total // 10}":
            return step
    return None


def split_totals(text: str) -> list[int]:
    """Ends of the steps: two characters each behind `=`; a splitter of `alignment.search.steps`' form."""
    start = text.find("=") + 1
    return list(range(start + STEP, len(text) + 1, STEP)) if start else []
