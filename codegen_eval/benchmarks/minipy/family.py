"""The shape of a MiniPy family: one programming task with parameter slots.

A family is data. Its bodies are texts with `str.format` slots (`{k}`, `{c!r}`); filling them with one
parameter setting gives one problem. Keeping bodies as text, not as functions, lets the same source serve as
reference, as training text for the embedded model and as a program for the sandbox.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One task with parameter slots.

    Attributes:
        name: Entry point of its problems and middle part of their task ids. topic: What it practises:
        lists, strings, numbers, dictionaries, recursion or algorithms. argument: Name of the single
        argument. inputs: Which generator of `inputs.py` draws small arguments. docs: Wordings of the
        docstring's first line. settings: Parameter settings; each is one problem. right: Correct bodies;
        the first one is the fast reference. slow: Correct bodies of a worse complexity class (or a clearly
        larger constant). wrong: Plausible mistakes; every one is wrong for every setting. scale: Size of
        the largest graded input (its unit depends on `inputs`). worst: Which generator of `inputs.py` draws
        the large arguments; they must not let slow bodies exit early.
    """

    name: str
    topic: str
    argument: str
    inputs: str
    docs: tuple[str, ...]
    settings: tuple[Params, ...]
    right: tuple[str, ...]
    slow: tuple[str, ...]
    wrong: tuple[str, ...]
    scale: int = 2000
    worst: str = ""

    def fill(self, body: str, params: Params) -> str:
        """The body with its slots filled, indented as a completion and ending in a newline."""
        return textwrap.indent(body.format(**params), "    ") + "\n"

    def signature(self) -> str:
        """The `def` line of every problem of the family."""
        return f"def {self.name}({self.argument}):"

    def doc(self, wording: int, params: Params) -> str:
        """First docstring line in one of the wordings."""
        return self.docs[wording].format(**params)


def grid(**axes: Sequence[Any]) -> tuple[Params, ...]:
    """All combinations of the axes, last axis fastest: `grid(k=range(2))` is `({"k": 0}, {"k": 1})`."""
    settings: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        settings = [{**setting, name: value} for setting in settings for value in values]
    return tuple(settings)


def pairs(first: str, second: str, values: Sequence[tuple[Any, Any]]) -> tuple[Params, ...]:
    """Settings of two parameters from a list of value pairs."""
    return tuple({first: a, second: b} for a, b in values)


NUMBERS = tuple(range(2, 20))
LETTERS = tuple("abcdefghiklmnoprst")
LETTER_PAIRS = tuple((a, b) for a, b in zip(LETTERS, LETTERS[5:] + LETTERS[:5], strict=True))
NUMBER_PAIRS = tuple((a, b) for a, b in zip(NUMBERS, NUMBERS[7:] + NUMBERS[:7], strict=True))
RANGES = tuple((lo, lo + width) for width in (2, 3, 5) for lo in (1, 2, 3, 4, 6, 8))
