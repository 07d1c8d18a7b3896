"""Python text of unknown quality as statements; bounded, and nothing is run."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

MAX_TEXT_CHARS = 100_000
MAX_SALVAGE_CHARS = 500_000

_MAX_JOINED_LINES = 200
_MAX_CUTS = 40

# What `ast` raises on hostile text: NULs and lone surrogates (ValueError), too deep nesting (RecursionError,
# MemoryError).
PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, TypeError, OverflowError)
_CONTINUES = re.compile(r"[\s)\]}#]|(?:else|elif|except|finally|case)\b|$")
_TRIPLE = re.compile("\"\"\"|'''")


def count_reason(reasons: Counter[str] | None, reason: str) -> None:
    """Counts a reason where somebody wants to know."""
    if reasons is not None:
        reasons[reason] += 1


def parse_statements(source: str) -> list[ast.stmt] | None:
    """Statements of a source text, or None when it is not Python."""
    try:
        with warnings.catch_warnings():  # "\d" and the like warn; the text is not ours to mend
            warnings.simplefilter("ignore")
            return ast.parse(source).body
    except PARSE_ERRORS:
        return None


def salvaged(text: str) -> str:
    """The parts of a broken text that are Python: each top-level stretch up to its first error.

    Prose between code goes, and so does what parses by chance (`Sure`, `Note: this`). No more than
    `MAX_SALVAGE_CHARS` are handed to the parser.
    """
    stretches = list(_stretches(text.split("\n")))
    kept: list[str] = []
    budget, i = MAX_SALVAGE_CHARS, 0
    while i < len(stretches) and budget > 0:
        lines, after = _bracketed(stretches, i)
        budget -= sum(map(len, lines)) + len(lines)
        if after > i + 1 and not parse_statements("\n".join(lines)):
            lines, after = stretches[i], i + 1
        good, budget = _longest_prefix(lines, budget)
        kept += good
        i = after
    return "".join(line + "\n" for line in kept)


def _stretches(lines: list[str]) -> Iterator[list[str]]:
    """Lines from each that may begin a top-level statement up to the next one; triple quotes respected."""
    current: list[str] = []
    quote, decorated = "", False
    for line in lines:
        if current and not quote and not decorated and not _CONTINUES.match(line):
            yield current
            current = []
        decorated = line.startswith("@") and (decorated or not current)
        current.append(line)
        for mark in _TRIPLE.findall(line):
            quote = mark if not quote else "" if mark == quote else quote
    if current:
        yield current


def _bracketed(stretches: list[list[str]], start: int) -> tuple[list[str], int]:
    """A stretch with those after it that close its brackets, and the number of the next one."""
    lines = list(stretches[start])
    depth = sum(map(_depth, lines))
    after = start + 1
    while depth > 0 and after < len(stretches) and len(lines) < _MAX_JOINED_LINES:
        lines += stretches[after]
        depth += sum(map(_depth, stretches[after]))
        after += 1
    return lines, after


def _depth(line: str) -> int:
    return sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")


def _longest_prefix(lines: list[str], budget: int) -> tuple[list[str], int]:
    """The first lines that parse, cut where the parser stumbles, and what is left of the budget."""
    end = len(lines)
    for _ in range(_MAX_CUTS):
        source = "\n".join(lines[:end])
        budget -= len(source) + 1
        if not source.strip() or budget < 0:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                body = ast.parse(source).body
            stumble = misplaced(body)
        except SyntaxError as error:
            stumble = error.lineno or 1
        except PARSE_ERRORS:
            break
        if stumble is not None:
            end = min(stumble - 1, end - 1)
            continue
        return (lines[:end] if any(map(_is_code, body)) else []), budget
    return [], budget


def misplaced(body: Sequence[ast.stmt]) -> int | None:
    """Line of the first `return` or `yield` outside of a function, which parses and cannot run."""
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            return node.lineno
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += reversed(list(ast.iter_child_nodes(node)))
    return None


def _is_code(node: ast.stmt) -> bool:
    """Whether a statement is more than words that happen to parse."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, (ast.Call, ast.Await, ast.Yield, ast.YieldFrom))
    return not (isinstance(node, ast.AnnAssign) and node.value is None)


def is_code(source: str) -> bool:
    """Whether a text is Python and says something."""
    return any(map(_is_code, parse_statements(source) or []))
