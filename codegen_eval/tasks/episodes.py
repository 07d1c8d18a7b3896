"""The episode task: add digits in episodes of thinking, stop when you like, answer.

A problem is `31847=`. An episode of thinking is three characters: the running total, units first, and the
index of the last digit that is in it, as in `402` (3 + 1 = 4, two digits read). `#` ends thinking and the
total follows, units first: `31847=402` `213` `614` `325` `#32`. Text written here also holds idle episodes,
which repeat the last total: thinking that costs tokens and brings nothing. Anyone who is stopped early has to
guess the digits that are not read yet, so that each useful episode raises the chance of a right answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codegen_eval.errors import CodealignError

CLOSE = "#"
BACK = "<"
ALPHABET = f"0123456789={CLOSE}{BACK}"
EPISODE = 3
"""Characters of an episode."""


@dataclass(frozen=True, slots=True)
class EpisodeTask:
    """Sizes and chances of the task and of the text that teaches it.

    Attributes:
        digits: Digits of a problem, from 2 to 9; one episode fewer is enough.
        idle: Chance that an idle episode follows an episode, again and again.
        cut: Share of training texts that are cut at a random episode, where the right total follows.
    """

    digits: int = 5
    idle: float = 0.45
    cut: float = 0.35

    def __post_init__(self) -> None:
        if not 2 <= self.digits <= 9:
            raise CodealignError(f"digits is {self.digits}: give 2 to 9, an index is one character")
        if not 0 <= self.idle < 1:
            raise CodealignError(f"idle is {self.idle}: give a chance of 0 or more and below 1")
        if not 0 <= self.cut <= 1:
            raise CodealignError(f"cut is {self.cut}: give a share from 0 to 1")


@dataclass(frozen=True, slots=True)
class Line:
    """A training text: `prompt`, `thinking` and `answer` follow each other; `cut` tells the two kinds apart.

    What a cut text thinks and where it stops is chance: only its answer is worth imitating.
    """

    prompt: str
    thinking: str
    answer: str
    cut: bool


def problems(task: EpisodeTask, seed: int, count: int) -> list[str]:
    """`count` different prompts, digits from 1 to 9; another seed gives others (they may meet).

    Raises:
        CodealignError: For more problems than a quarter of those there are.
    """
    if not 0 <= count <= 9**task.digits // 4:
        raise CodealignError(
            f"{count} different problems of {task.digits} digits: give 0 to {9**task.digits // 4}"
        )
    rng = np.random.default_rng([seed, 1])
    found: dict[str, None] = {}
    while len(found) < count:
        drawn = rng.integers(1, 10, size=(count, task.digits))
        found.update(dict.fromkeys("".join(map(str, row)) + "=" for row in drawn.tolist()))
    return list(found)[:count]


def answer(prompt: str) -> str:
    """The right answer to a prompt: its digits' sum, units first.

    Raises:
        CodealignError: For a text that is no problem.
    """
    digits = prompt.removesuffix("=")
    if not prompt.endswith("=") or not digits or not set(digits) <= set("123456789"):
        raise CodealignError(f"{prompt!r} is no problem of this task: digits from 1 to 9 and '='")
    return two(sum(map(int, digits)))


def two(total: int) -> str:
    """A total from 0 to 99 as two characters, units first."""
    return f"{total % 10}{total // 10}"


def useful(prompt: str) -> list[str]:
    """The shortest right thinking: one episode a digit, from the second on."""
    digits = [int(digit) for digit in prompt.removesuffix("=")]
    return [f"{two(sum(digits[:read]))}{read}" for read in range(2, len(digits) + 1)]


def thinking(task: EpisodeTask, prompt: str, rng: np.random.Generator) -> list[str]:
    """Right thinking with idle episodes in it."""
    episodes = []
    for episode in useful(prompt):
        episodes.append(episode)
        while rng.random() < task.idle:
            episodes.append(episode)
    return episodes


def lines(task: EpisodeTask, seed: int) -> Iterator[Line]:
    """Training texts without end."""
    rng = np.random.default_rng([seed, 2])
    while True:
        prompt = "".join(map(str, rng.integers(1, 10, size=task.digits).tolist())) + "="
        episodes = thinking(task, prompt, rng)
        cut = bool(rng.random() < task.cut)
        if cut:
            episodes = episodes[: int(rng.integers(len(episodes) + 1))]
        yield Line(prompt, "".join(episodes), answer(prompt), cut)


def episode_ends(text: str) -> list[int]:
    """Where the episodes of some thinking end, in characters; a rest of one or two belongs to the last."""
    ends = list(range(EPISODE, len(text) + 1, EPISODE))
    if not text:
        return []
    return [*ends[:-1], len(text)] if ends else [len(text)]


def is_right(prompt: str, given: str) -> bool:
    """Whether what was answered behind `#` is the total, and nothing else."""
    return given == answer(prompt)
