"""Where steps end: certain whatever follows, at statements only, whole in tokens."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import alignment.search
import codegen_eval.pairs
from alignment.search.steps import split_lines, split_statements, token_steps
from codegen_eval.errors import CodealignError

SOURCES = sorted(
    path
    for package in (alignment.search, codegen_eval.pairs)
    for path in Path(package.__path__[0]).glob("*.py")
)

PROGRAM = '''\
import math


@cached
def primes(n):
    """All primes below n."""
    if n < 3:
        return []
    # the sieve
    alive = [True] * n
    for i in range(2, int(math.sqrt(n)) + 1):
        if alive[i]:
            for j in range(
                i * i, n, i
            ):
                alive[j] = False

    try:
        text = """
def not_code():
"""
    except ValueError:
        pass
    else:
        text = 'it\\'s (one'
    return [i for i in range(2, n) \\
            if alive[i]]


class Box:
    size = 3

    async def open(self):
        pass

    def shut(self): return 1
'''
STEPS = [
    "import math",
    "primes|return []",
    "# the sieve|alive = [True] * n",
    "for i|= False",
    "try|(one'",
    "return [i|if alive[i]]",
    "class Box|size = 3",
    "async def|pass",
    "def shut|return 1",
]


def steps_of(text: str, ends: list[int]) -> list[str]:
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


def test_blocks_are_whole_statements_with_headers_glued_on() -> None:
    steps = steps_of(PROGRAM, split_statements(PROGRAM))
    assert len(steps) == len(STEPS)
    for step, marks in zip(steps, STEPS, strict=True):
        assert step.endswith("\n") and step.strip().endswith(marks.split("|")[-1]), step
        assert marks.split("|")[0] in step.lstrip()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_step_of_real_code_starts_with_a_statement(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    starts = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            decorators = getattr(node, "decorator_list", [])
            starts.add(min([node.lineno, *(decorator.lineno for decorator in decorators)]))
    steps = steps_of(text, split_statements(text))
    assert "".join(steps) == text
    line = 1
    for step in steps:
        lines = step.split("\n")
        first = next((i for i, part in enumerate(lines) if part.strip() and part.strip()[0] != "#"), None)
        if first is not None:
            assert line + first in starts, step
        line += step.count("\n")


def test_an_end_is_certain_whatever_follows() -> None:
    everything = split_statements(PROGRAM)
    for size in range(len(PROGRAM)):
        known = split_statements(PROGRAM[:size])
        assert known == everything[: len(known)], PROGRAM[:size]
    assert len(split_statements(PROGRAM[: everything[3] + 6])) == 4, "ends must come as soon as they are sure"


def test_a_continuation_that_is_half_written_ends_nothing() -> None:
    for start in ("e", "el", "else", "exc", "finally"):
        assert split_statements(f"if a:\n    b\n{start}") == []
    assert split_statements("if a:\n    b\nelse_ = 1\n") == [12]


def test_completions_are_split_behind_their_prompt_alone() -> None:
    prompt = "import os\ndef f(x):\n"
    text = prompt + "    y = x\n    return y\n"
    assert split_statements(text, len(prompt)) == [len(prompt) + 10]


def test_code_that_is_broken_or_empty_is_split_without_an_error() -> None:
    assert split_statements("") == [] and split_lines("") == []
    assert split_statements("x = ')]}'\ny = (\n z\nq\n") == [10]
    assert split_statements("a = 1\n\n# only a comment\n") == []
    assert split_statements("x = '''never closed\ny = 1\n") == []
    assert split_statements("    deep\nshallow\n") == [9]


def test_lines_end_behind_their_newlines_and_short_ones_are_glued() -> None:
    text = "First line.\n\n1.\nSecond line.\nopen"
    assert steps_of(text, split_lines(text)) == ["First line.\n\n", "1.\nSecond line.\n", "open"]
    assert split_lines("never a newline") == []


def test_token_ranges_cover_all_tokens_and_follow_the_place_where_each_begins() -> None:
    offsets = [(0, 3), (3, 5), (5, 9), (9, 10), (10, 12)]
    assert token_steps([4, 9], offsets) == [(0, 2), (2, 3), (3, 5)]
    assert token_steps([], offsets) == [(0, 5)]
    assert token_steps([12], offsets) == [(0, 5)]
    assert token_steps([1, 2], offsets) == [(0, 1), (1, 5)], "no range is empty"
    assert token_steps([3], []) == []
    with pytest.raises(CodealignError, match="ends must not fall"):
        token_steps([5, 4], offsets)
