"""The examples that a prompt's docstring shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from codegen_eval.extraction.assertion_lines import (
    MAX_ASSERTION_CHARS,
    assertion_fault,
    literal,
    normalised,
)
from codegen_eval.extraction.parsing import MAX_TEXT_CHARS, parse_statements

_ARROW = re.compile(r"\s*(?:==>|=>|==|➞|→|->|⟹|returns?\b|should return\b|should be\b)\s*")
_LOWER_CASE = re.compile(r"^\s*(true|false)\b")
_AFTER_VALUE = re.compile(r"\s*($|[#,.;`)(])")


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
        literal(node)
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
        fault = assertion_fault(ast.Assert(test), entry_point)
    except RecursionError:
        return None
    return normalised(test) if fault is None else None


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
