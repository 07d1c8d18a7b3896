"""Which siblings say the same: two samples of one step are no alternative, a pair of them teaches style."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from alignment.search.tree import Step
from codegen_eval.extraction import parse_statements

Key = Callable[[str, Step], Hashable]
"""What makes steps equal: a function of the text before the step and the step."""


def merge_steps(before: str, steps: Sequence[Step], key: Key) -> list[Step]:
    """Keeps the first of equal steps, in order; `copies` of it counts those it stands for.

    Steps of which one ends the answer and the other does not are never equal.
    """
    kept: dict[Hashable, Step] = {}
    for step in steps:
        name = (step.terminal, key(before, step))
        kept[name] = replace(kept[name], copies=kept[name].copies + step.copies) if name in kept else step
    return list(kept.values())


def by_tokens(before: str, step: Step) -> Hashable:
    """Equal token ids."""
    return step.tokens


def by_text(before: str, step: Step) -> Hashable:
    """Equal text, without white space at the ends."""
    return step.text.strip()


def by_program(before: str, step: Step) -> Hashable:
    """Equal programs up to here, but for layout, comments and the names of local variables.

    `before` must be the program so far (prompt's code and steps). What does not parse, as a step cut within
    a statement, is compared as text.
    """
    statements = parse_statements(before + step.text)
    if statements is None:
        return by_text(before, step)
    tree = ast.Module(statements, [])
    return ast.dump(_Renamed(_locals(tree)).visit(tree))


def _locals(tree: ast.Module) -> dict[str, str]:
    """New names for the variables that functions assign, by the order in which they come.

    Parameters keep their names, as callers may use them; so do functions, globals and built-ins.
    """
    kept = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Global | ast.Nonlocal):
            kept |= set(node.names)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    kept |= {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inner
    }
    stored = [
        node
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id not in kept
    ]
    names: dict[str, str] = {}
    for node in sorted(stored, key=lambda name: (name.lineno, name.col_offset)):
        names.setdefault(node.id, f"<{len(names)}>")
    return names


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:  # ast's own spelling of the hook
        node.id = self.names.get(node.id, node.id)
        return node
