"""When two programs are the same, and how programs are named by hash."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache

from codegen_eval.extraction import parse_statements


class _DropDocstrings(ast.NodeTransformer):
    """Removes docstrings of functions, classes and the module."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        documented = isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        if documented and isinstance(body, list) and body:
            first = body[0]
            text = first.value if isinstance(first, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                body[:1] = [] if len(body) > 1 else [ast.Pass()]
        return node


@lru_cache(maxsize=65_536)
def normal_form(source: str) -> str:
    """A program without comments, docstrings and layout; its bare text where it is not Python."""
    statements = parse_statements(source)
    if statements is None:
        return source.strip()
    try:
        tree = _DropDocstrings().visit(ast.Module(statements, []))
        return ast.unparse(ast.fix_missing_locations(tree))
    except (RecursionError, ValueError):
        return source.strip()


def loads(source: str) -> bool:
    """Whether a program is Python at all."""
    return parse_statements(source) is not None


def sha(text: str) -> str:
    """SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
