"""What a model's text holds: the function's program, assertion lines, and the examples of a prompt's
docstring.

Pure functions on text. Nothing is executed, imported or evaluated beyond `ast.literal_eval`, and the work is
bounded however long, deep or broken the text is: it was written by a model that may be hostile.
"""

from __future__ import annotations

import ast
import builtins
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sandbox import CallTest, CodeTest

MAX_TEXT_CHARS = 100_000
MAX_ASSERTION_CHARS = 1_000
MAX_ASSERTION_LINES = 20
MAX_CANDIDATES = 1_000

# What `ast` raises on hostile text: NULs and lone surrogates (ValueError), too deep nesting (RecursionError,
# MemoryError).
_PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, TypeError, OverflowError)
_ASSERT_LINE = re.compile(r"assert\b")
_STOP_LINE = re.compile(r"(def|async\s+def|class|if\s+__name__|assert|print)\b|@\w|```")
_ARROW = re.compile(r"\s*(?:==>|=>|==|➞|→|->|⟹|returns?\b|should return\b|should be\b)\s*")
_LOWER_CASE = re.compile(r"^\s*(true|false)\b")
_AFTER_VALUE = re.compile(r"\s*($|[#,.;`)(])")
_LITERAL_TYPES = (type(None), bool, int, float, str, bytes)


def _count(reasons: Counter[str] | None, reason: str) -> None:
    if reasons is not None:
        reasons[reason] += 1


def parse_statements(source: str) -> list[ast.stmt] | None:
    """Statements of a source text, or None when it is not Python."""
    try:
        with warnings.catch_warnings():  # "\d" and the like warn; the text is not ours to mend
            warnings.simplefilter("ignore")
            return ast.parse(source).body
    except _PARSE_ERRORS:
        return None


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


def _assertion_fault(node: ast.stmt | None, entry_point: str) -> str | None:
    if node is None:
        return "unparsable"
    if not isinstance(node, ast.Assert):
        return "not_an_assertion"
    if not calls_entry_point(node.test, entry_point):
        return "no_call"
    return "unknown_name" if _unknown_names(node.test, entry_point) else None


def _normalised(test: ast.expr) -> str | None:
    """`assert <expression>` in one spelling and without a message; None when it cannot be written in
    bounds.
    """
    try:
        text = "assert " + ast.unparse(test)
        text.encode("utf-8")
    except _PARSE_ERRORS:
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
        _count(reasons, "text_cut")
    kept: dict[str, None] = {}
    for number, lines in enumerate(_segments(text[:MAX_TEXT_CHARS])):
        if len(kept) >= limit or number >= MAX_CANDIDATES:
            _count(reasons, "over_limit")
            break
        node = _first_statement(lines)
        try:
            fault = _assertion_fault(node, entry_point)
        except RecursionError:
            fault = "unparsable"
        normal = _normalised(node.test) if fault is None and isinstance(node, ast.Assert) else None
        if normal is None:
            _count(reasons, fault or "too_long")
        elif normal in kept:
            _count(reasons, "repeated")
        else:
            kept[normal] = None
            _count(reasons, "kept")
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


def _literal(node: ast.expr) -> Any:
    """Value of a literal expression; ValueError for anything else."""
    try:
        value = ast.literal_eval(node)
        if _plain(value):
            return value
    except _PARSE_ERRORS as error:
        raise ValueError("not a literal") from error
    raise ValueError("not plain data")


def _arguments(node: ast.expr, entry_point: str) -> tuple[Any, ...]:
    """Positional literal arguments of a call of the entry point; ValueError for anything else."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point
    if not named or not isinstance(node, ast.Call) or node.keywords:
        raise ValueError("not a plain call of the entry point")
    return tuple(_literal(argument) for argument in node.args)


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
    expected = _literal(right)
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


def docstring(prompt: str, entry_point: str) -> str:
    """Docstring of the entry point's function in a prompt that may end before its body; empty when there is
    none.
    """
    prompt = prompt[:MAX_TEXT_CHARS]
    for source in (prompt, prompt.rstrip() + "\n    pass\n"):
        for node in reversed(parse_statements(source) or []):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == entry_point:
                return ast.get_docstring(node) or ""
    return ""


def _call_end(text: str, start: int) -> int | None:
    """Index behind the bracket that closes the first one opened at or after `start`, strings respected."""
    depth, quote, i = 0, "", start
    while i < len(text):
        c = text[i]
        if quote:
            if c == "\\":
                i += 1
            elif c == quote:
                quote = ""
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    return None


def _expression(text: str) -> ast.expr | None:
    body = parse_statements(text)
    return body[0].value if body and len(body) == 1 and isinstance(body[0], ast.Expr) else None


def _leading_literal(text: str) -> str | None:
    """The longest literal that a text starts with, if a value may end there; a full stop after a number is no
    decimal.
    """
    text = text[:MAX_ASSERTION_CHARS].strip()
    ends = [m.start() for m in re.finditer(r"$|(?<=\S)(?=[\s#,.;`)(])", text)][-60:]
    for end in reversed(ends):
        value = text[:end].rstrip()
        if value and _AFTER_VALUE.match(text[end:]) and not value.endswith("."):
            node = _expression(value)
            if node is not None and _is_literal(node):
                return value
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        _literal(node)
    except ValueError:
        return False
    return True


def _prompted(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(call, expected) texts of the `>>>` examples, continuation lines joined."""
    i = 0
    while i < len(lines):
        if not lines[i].strip().startswith(">>>"):
            i += 1
            continue
        call, i = lines[i].strip()[3:].strip(), i + 1
        while i < len(lines) and lines[i].strip().startswith("..."):
            call, i = call + " " + lines[i].strip()[3:].strip(), i + 1
        want = []
        while i < len(lines) and lines[i].strip() and not lines[i].strip().startswith(">>>"):
            want.append(lines[i].strip())
            i += 1
        whole = " ".join(want)
        yield call, whole if _leading_literal(whole) == whole.strip() else (want or [""])[0]


def _written_out(lines: list[str], entry_point: str) -> Iterator[tuple[str, str]]:
    """(call, expected) texts of `f(1) == 2`, `f(1) ➞ 2`, `f(1) -> 2` and their like, anywhere in a line."""
    name = re.compile(rf"(?<![\w.]){re.escape(entry_point)}\s*\(")
    for line in lines:
        line = line[:MAX_ASSERTION_CHARS]
        if line.strip().startswith("..."):
            continue
        for match in name.finditer(line):
            end = _call_end(line, match.start())
            arrow = _ARROW.match(line, end) if end is not None else None
            if arrow and end is not None:
                yield line[match.start() : end], line[arrow.end() :]


def _example(call: str, want: str, entry_point: str) -> str | None:
    """One example as a normalised assertion; None where it is not a call with a literal value."""
    value = _leading_literal(_LOWER_CASE.sub(lambda m: m[0].capitalize(), want))
    called, expected = _expression(call), _expression(value or "")
    if called is None or expected is None:
        return None
    test = ast.Compare(called, [ast.Eq()], [expected])
    try:
        fault = _assertion_fault(ast.Assert(test), entry_point)
    except RecursionError:
        return None
    return _normalised(test) if fault is None else None


def docstring_examples(prompt: str, entry_point: str, *, limit: int = 20) -> list[str]:
    """The examples that a prompt's docstring shows, as normalised assertions; read from the prompt's text
    alone.

    Understands `>>> f(1)` with its value on the next line and, as HumanEval writes them, `f(1) == 2`, `f(1) ➞
    2`, `f(1) -> 2`, `f(1) => 2`, `f(1) returns 2`. An example whose value is no literal is left out.
    """
    lines = docstring(prompt, entry_point).split("\n")
    found: dict[str, None] = {}
    for call, want in [*_prompted(lines), *_written_out(lines, entry_point)]:
        if normal := _example(call, want, entry_point):
            found[normal] = None
    return list(found)[:limit]


def program(prompt: str, completion: str, entry_point: str, *, reasons: Counter[str] | None = None) -> str:
    """The program that a completion makes of its prompt, cut where the function's body ends.

    The body ends before the next top-level `def`, `class`, decorator, `if __name__`, `assert`, `print` or
    code fence. The result always starts with the prompt, and ends with one newline, so that equal programs
    are equal text.

    Args:
        prompt: Text up to the function's body.
        completion: What the model wrote after it.
        entry_point: Name of the function; a completion that starts by defining it anew keeps that definition.
        reasons: If given, counts what happened: `whole`, `cut`, `empty`, `too_long`.
    """
    if len(completion) > MAX_TEXT_CHARS:
        _count(reasons, "too_long")
        completion = completion[:MAX_TEXT_CHARS]
    lines = completion.replace("\r\n", "\n").encode("utf-8", "replace").decode("utf-8").split("\n")
    again = re.compile(rf"def\s+{re.escape(entry_point)}\s*\(")
    kept: list[str] = []
    redefined = False
    for number, line in enumerate(lines):
        # The first line continues the prompt's last one unless that one is closed.
        if (number > 0 or prompt.endswith("\n")) and _STOP_LINE.match(line):
            if redefined or any(text.strip() for text in kept) or not again.match(line):
                _count(reasons, "cut")
                break
            redefined = True
        kept.append(line)
    else:
        _count(reasons, "whole")
    body = "\n".join(kept).rstrip()
    if not body.strip():
        _count(reasons, "empty")
        return prompt if prompt.endswith("\n") else prompt + "\n"
    return prompt + body + "\n"
