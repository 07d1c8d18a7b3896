"""Assertion lines that a model wrote, and the tests that the sandbox runs for them."""

from __future__ import annotations

import ast
import builtins
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from codegen_eval.extraction.parsing import MAX_TEXT_CHARS, PARSE_ERRORS, count_reason, parse_statements
from sandbox import CallTest, CodeTest

MAX_ASSERTION_CHARS = 1_000
MAX_ASSERTION_LINES = 20
MAX_CANDIDATES = 1_000

_ASSERT_LINE = re.compile(r"assert\b")
_LITERAL_TYPES = (type(None), bool, int, float, str, bytes)


def _first_statement(lines: list[str]) -> ast.stmt | None:
    """The statement that the first lines form: the fewest lines that parse win, so a broken tail is left
    behind.
    """
    for end in range(1, min(len(lines), MAX_ASSERTION_LINES) + 1):
        source = "\n".join(lines[:end])
        if len(source) > MAX_ASSERTION_CHARS:
            return None
        if body := parse_statements(source):
            return body[0]
    return None


def calls_entry_point(node: ast.AST, entry_point: str) -> bool:
    """Whether an expression contains a call of the function by its name."""
    return any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == entry_point
        for n in ast.walk(node)
    )


def _unknown_names(node: ast.AST, entry_point: str) -> bool:
    """Whether an expression reads a name that a test standing alone does not have."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    bound = {n.id for n in names if not isinstance(n.ctx, ast.Load)} | {
        n.arg for n in ast.walk(node) if isinstance(n, ast.arg)
    }
    known = bound | {entry_point}
    return any(n.id not in known and not hasattr(builtins, n.id) for n in names)


def assertion_fault(node: ast.stmt | None, entry_point: str) -> str | None:
    """Why a statement is no test of the entry point that stands alone; None where it is one."""
    if node is None:
        return "unparsable"
    if not isinstance(node, ast.Assert):
        return "not_an_assertion"
    if not calls_entry_point(node.test, entry_point):
        return "no_call"
    return "unknown_name" if _unknown_names(node.test, entry_point) else None


def normalised(test: ast.expr) -> str | None:
    """`assert <expression>` in one spelling and without a message; None when it cannot be written in
    bounds.
    """
    try:
        text = "assert " + ast.unparse(test)
        text.encode("utf-8")
    except PARSE_ERRORS:
        return None
    return text if len(text) <= MAX_ASSERTION_CHARS and "\n" not in text else None


def _segments(text: str) -> Iterator[list[str]]:
    """Lines from each top-level `assert` up to the next one."""
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [i for i, line in enumerate(lines) if _ASSERT_LINE.match(line)]
    for start, end in pairwise([*starts, len(lines)]):
        yield lines[start:end]


def assertions(
    text: str, entry_point: str, *, limit: int = 20, reasons: Counter[str] | None = None
) -> list[str]:
    """Normalised assertion lines of a test completion that a model wrote.

    Kept is what stands at top level, parses, calls the entry point inside the asserted expression and reads
    no name of its surroundings; messages are dropped, each assertion is kept once, in order of appearance.

    Args:
        text: The completion; only its first `MAX_TEXT_CHARS` characters are read.
        entry_point: Name of the function under test.
        limit: Most assertions kept.
        reasons: If given, counts `kept` and why others were dropped (`unparsable`, `not_an_assertion`,
            `no_call`, `unknown_name`, `too_long`, `repeated`, `over_limit`, `text_cut`).
    """
    if len(text) > MAX_TEXT_CHARS:
        count_reason(reasons, "text_cut")
    kept: dict[str, None] = {}
    for number, lines in enumerate(_segments(text[:MAX_TEXT_CHARS])):
        if len(kept) >= limit or number >= MAX_CANDIDATES:
            count_reason(reasons, "over_limit")
            break
        node = _first_statement(lines)
        try:
            fault = assertion_fault(node, entry_point)
        except RecursionError:
            fault = "unparsable"
        normal = normalised(node.test) if fault is None and isinstance(node, ast.Assert) else None
        if normal is None:
            count_reason(reasons, fault or "too_long")
        elif normal in kept:
            count_reason(reasons, "repeated")
        else:
            kept[normal] = None
            count_reason(reasons, "kept")
    return list(kept)


def _plain(value: Any) -> bool:
    """Whether a value is data that both sides of the sandbox compare alike: finite numbers, encodable text,
    containers.
    """
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is str:
        return not any("\ud800" <= c <= "\udfff" for c in value)
    if kind in (list, tuple, set):
        return all(_plain(v) for v in value)
    if kind is dict:
        return all(_plain(k) and _plain(v) for k, v in value.items())
    return kind in _LITERAL_TYPES


def literal(node: ast.expr) -> Any:
    """Value of a literal expression; ValueError for anything else."""
    try:
        value = ast.literal_eval(node)
        if _plain(value):
            return value
    except PARSE_ERRORS as error:
        raise ValueError("not a literal") from error
    raise ValueError("not plain data")


def _arguments(node: ast.expr, entry_point: str) -> tuple[Any, ...]:
    """Positional literal arguments of a call of the entry point; ValueError for anything else."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point
    if not named or not isinstance(node, ast.Call) or node.keywords:
        raise ValueError("not a plain call of the entry point")
    return tuple(literal(argument) for argument in node.args)


def _call_test(test: ast.expr, entry_point: str) -> CallTest:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return CallTest(_arguments(test.operand, entry_point), False)
    if not isinstance(test, ast.Compare):
        return CallTest(_arguments(test, entry_point), True)
    if len(test.ops) != 1 or not isinstance(test.ops[0], (ast.Eq, ast.Is)):
        raise ValueError("not an equality")
    left, right = test.left, test.comparators[0]
    if isinstance(left, ast.Constant) or not calls_entry_point(left, entry_point):
        left, right = right, left
    expected = literal(right)
    if isinstance(test.ops[0], ast.Is) and not any(expected is c for c in (True, False, None)):
        raise ValueError("identity is defined for True, False and None only")
    return CallTest(_arguments(left, entry_point), expected)


def to_test(assertion: str, entry_point: str) -> CallTest | CodeTest:
    """The test that the sandbox runs for an assertion.

    `assert f(<literals>) == <literal>` (either side), `assert f(<literals>)`, `is True/False/None` and `not
    f(...)` become a `CallTest`: data alone, compared outside the solution's process. Anything else stays
    source, a `CodeTest`.
    """
    body = parse_statements(assertion) if len(assertion) <= MAX_TEXT_CHARS else None
    if body and len(body) == 1 and isinstance(body[0], ast.Assert):
        try:
            return _call_test(body[0].test, entry_point)
        except (ValueError, RecursionError):
            return CodeTest(assertion)
    return CodeTest(assertion)
