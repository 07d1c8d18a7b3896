"""Where a step ends: lines of reasoning, or complete statement blocks of Python.

A splitter is a pure function of a text: it gives the places (characters from the start, each the end of a
step) that are certain whatever may follow; the rest is a step that is still being written, or the last one
once the text is over. `token_steps` carries the places over to token ids, which are never made anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from codegen_eval.errors import CodealignError

StepSplitter = Callable[[str], list[int]]

SHORTEST_LINE = 3

_NEWLINES = re.compile(r"\n+")
_PIECE = re.compile(
    r"(?P<string>(?i:[rbfut]{0,2})(?:'''(?:[^\\]|\\.)*?'''|\"\"\"(?:[^\\]|\\.)*?\"\"\""
    r"|'(?!'')(?:[^'\\\n]|\\.)*'|\"(?!\"\")(?:[^\"\\\n]|\\.)*\"))"
    r"|(?P<open>(?:'''|\"\"\").*)"
    r"|(?P<comment>\#[^\n]*)|(?P<joined>\\\r?\n)|(?P<newline>\n)|(?P<left>[(\[{])|(?P<right>[)\]}])|\w+|.",
    re.DOTALL,
)
_CONTINUES = {"else", "elif", "except", "finally"}
_OPENS = {"def", "class"}


def split_lines(text: str) -> list[int]:
    """Ends of the lines of reasoning; a run of newlines belongs to the line before it.

    A line of at most 3 characters is glued to the next one, as MCTS-DPO's code does (bullets, numbers).
    """
    ends, start = [], 0
    for run in _NEWLINES.finditer(text):
        # A run at the very end may still grow, but a line break is certain.
        if len(text[start : run.start()].strip()) > SHORTEST_LINE:
            ends.append(run.end())
            start = run.end()
    return ends


@dataclass(frozen=True, slots=True)
class _Line:
    """A logical line: from where it starts to behind its newline, its indent, and its first word."""

    start: int
    end: int
    indent: int
    word: str
    closed: bool


def split_statements(text: str, start: int = 0) -> list[int]:
    """Ends of the complete statement blocks of Python code, as far as it is written.

    A block is a simple statement, or a compound one with everything that belongs to it (`if` to the end of
    its `else`, loops, `with`, `try`). Headers of functions and classes, decorators and docstrings are glued
    to the first block inside: a function is too coarse for a step. Comments and blank lines belong to the
    block that follows. A block is complete when the next one has begun, for until then it may go on.

    Args:
        text: Program so far, e.g. prompt and completion; it need not parse. Tabs count to the next multiple
            of 8.
        start: Ends up to here are left out: those in the prompt.

    Returns:
        Rising places in the text; behind the last one stands what is not certain to be complete.
    """
    ends: list[int] = []
    block: int | None = None  # the present block's indent; None before the first
    opened = False  # the next line is glued on, whatever its indent is
    behind = 0  # end of the last line of code
    for line in _logical_lines(text):
        if not line.word:
            continue
        inside = block is not None and line.indent > block
        if block is None or (opened and line.indent >= block):
            block, opened = line.indent, _opens(text, line, block is None or opened)
        elif not inside and not _continues(text, line):
            ends.append(behind)
            block, opened = line.indent, _opens(text, line, False)
        behind = line.end
    return [end for end in ends if end > start]


def _continues(text: str, line: _Line) -> bool:
    """Whether a line belongs to the compound statement before it, or may still turn out to."""
    if text[line.start :].strip() == line.word:  # the text ends within the first word
        return any(word.startswith(line.word) for word in _CONTINUES)
    return line.word in _CONTINUES


def _opens(text: str, line: _Line, documents: bool) -> bool:
    """Whether what follows is glued on: behind headers of functions and classes, decorators, docstrings."""
    if line.word == "async":
        return text[line.start : line.end].split()[1:2] == ["def"] and _header(text, line)
    if line.word == '"':
        return documents
    return line.word == "@" or (line.word in _OPENS and _header(text, line))


def _header(text: str, line: _Line) -> bool:
    code = re.sub(r"#[^\n]*$", "", text[line.start : line.end].rstrip()).rstrip()
    return code.endswith(":")


def _logical_lines(text: str) -> Iterator[_Line]:
    """Lines joined over brackets, triple quotes and backslashes; the last one may be open.

    `word` is the first name, "@" of a decorator, '"' of a line that begins with a string, empty for lines of
    blanks and comments.
    """
    start, depth, word, indent = 0, 0, "", 0
    fresh = True
    for piece in _PIECE.finditer(text):
        kind, part = piece.lastgroup, piece.group()
        if kind == "newline" and depth == 0:
            yield _Line(start, piece.end(), indent, word, True)
            start, word, fresh = piece.end(), "", True
            continue
        depth = max(depth + (kind == "left") - (kind == "right"), 0)
        if fresh and kind != "comment" and not part.isspace() and kind != "joined":
            indent = len(text[start : piece.start()].expandtabs(8))
            word = '"' if kind in ("string", "open") else part
            fresh = False
    if start < len(text):
        yield _Line(start, len(text), indent, word, False)


def token_steps(ends: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Token ranges [first, end) of the steps that end at `ends`, and of the rest behind the last one.

    A token across a boundary belongs to the step in which it begins, so that a step's ids are those that were
    sampled. Ranges without tokens are left out.

    Args:
        ends: Places in the text, rising.
        offsets: (start, end) characters of each token, in order.

    Raises:
        CodealignError: For ends or offsets that fall.
    """
    starts = [start for start, _ in offsets]
    for name, values in (("ends", list(ends)), ("starts of tokens", starts)):
        if any(later < earlier for earlier, later in pairwise(values)):
            raise CodealignError(f"{name} must not fall: {values[:20]}")
    ranges, first = [], 0
    for end in [*ends, None]:
        stop = len(starts) if end is None else first
        while end is not None and stop < len(starts) and starts[stop] < end:
            stop += 1
        if stop > first:
            ranges.append((first, stop))
        first = stop
    return ranges
