"""Python text of unknown quality as statements; bounded, and nothing is run."""

from __future__ import annotations

import ast
import warnings
from collections import Counter

MAX_TEXT_CHARS = 100_000

# What `ast` raises on hostile text: NULs and lone surrogates (ValueError), too deep nesting (RecursionError,
# MemoryError).
PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, TypeError, OverflowError)


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
