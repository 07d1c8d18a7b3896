"""Which siblings say the same: two samples of one step are no alternative, a pair of them teaches style."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable, Iterator, Sequence
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
    try:
        return ast.dump(_Renamed(_locals(tree)).visit(tree))
    except RecursionError:  # text of a model may nest deeper than a visitor can go
        return by_text(before, step)


def _locals(tree: ast.Module) -> dict[str, str]:
    """New names for local variables, by the order in which they are first assigned.

    A name is local where every function that has it assigns it too. Parameters keep their names, as callers
    may use them; so do globals, built-ins, and variables that an inner function takes from an outer one.
    """
    kept: set[str] = set()
    stored: list[ast.Name] = []
    for scope, nodes in _scopes(tree):
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = [node for node in names if not isinstance(node.ctx, ast.Load)]
        if scope is tree:
            kept |= {node.id for node in names}
        else:
            kept |= {node.id for node in names} - {node.id for node in own}
            stored += own
        kept |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        kept |= {n for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for n in node.names}
    new: dict[str, str] = {}
    for node in sorted(stored, key=lambda name: (name.lineno, name.col_offset)):
        if node.id not in kept:
            new.setdefault(node.id, f"<{len(new)}>")
    return new


def _scopes(tree: ast.Module) -> Iterator[tuple[ast.AST, list[ast.AST]]]:
    """The module and every function in it, each with the nodes that are in no function further down."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        scope = waiting.pop()
        own, stack = [], list(ast.iter_child_nodes(scope))
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                waiting.append(node)
            else:
                own.append(node)
                stack.extend(ast.iter_child_nodes(node))
        yield scope, own


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:  # ast's own spelling of the hook
        node.id = self.names.get(node.id, node.id)
        return node
