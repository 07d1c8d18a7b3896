"""Wrong programs made of a right one: what good tests must find.

One small change each (DeMillo, Lipton & Sayward 1978): a comparison moved or turned round, an operator
swapped, a constant moved by one, a condition negated, a return value dropped; and first of all the body that
returns nothing. A change may leave the meaning as it was: a mutant that survives asks for a look, it proves
nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codegen_eval.extraction import parse_statements

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
Change = Callable[[ast.AST], None]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed program, and what was changed where."""

    source: str
    what: str


def nothing(source: str, entry_point: str) -> Mutant | None:
    """The program whose entry point returns None at once; None where the source does not define it."""
    body = parse_statements(source)
    name = entry_point.replace("()", "").rpartition(".")[2]
    found = [
        node
        for statement in body or []
        for node in ast.walk(statement)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    for node in found:
        node.body = [ast.Return(ast.Constant(None))]
    if not found:
        return None
    return Mutant(_text(ast.Module(body or [], [])), f"{name} returns None")


def mutants(source: str, *, most: int = 20) -> list[Mutant]:
    """Programs with one change each, evenly spread over the source; equal sources once.

    Args:
        source: A Python program; what does not parse has no mutants.
        most: How many at most.
    """
    body = parse_statements(source)
    if body is None:
        return []
    tree = ast.Module(body, [])
    found: dict[str, Mutant] = {}
    original = _text(tree)
    for place, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            changed = copy.deepcopy(tree)
            target = next(n for i, n in enumerate(ast.walk(changed)) if i == place)
            change(target)
            text = _text(changed)
            if text and text != original:
                found.setdefault(text, Mutant(text, f"line {getattr(node, 'lineno', 0)}: {what}"))
    every = list(found.values())
    step = max(1.0, len(every) / most)
    return [every[int(i * step)] for i in range(min(most, len(every)))]


def _text(tree: ast.Module) -> str:
    try:
        return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    except (RecursionError, ValueError):
        return ""


def _changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        yield f"{type(node.ops[0]).__name__} is {_COMPARISONS[type(node.ops[0])].__name__}", _compare
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield f"{type(node.op).__name__} is {_OPERATORS[type(node.op)].__name__}", _operate
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value} is {node.value + 1}", _constant
    elif isinstance(node, ast.BoolOp):
        yield "and, or are swapped", _boolean
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "the condition is negated", _negate
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "returns None", _return


def _compare(node: ast.AST) -> None:
    assert isinstance(node, ast.Compare)
    node.ops[0] = _COMPARISONS[type(node.ops[0])]()


def _operate(node: ast.AST) -> None:
    assert isinstance(node, ast.BinOp)
    node.op = _OPERATORS[type(node.op)]()


def _constant(node: ast.AST) -> None:
    assert isinstance(node, ast.Constant)
    assert type(node.value) is int
    node.value += 1


def _boolean(node: ast.AST) -> None:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()


def _negate(node: ast.AST) -> None:
    assert isinstance(node, ast.If | ast.While | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _return(node: ast.AST) -> None:
    assert isinstance(node, ast.Return)
    node.value = ast.Constant(None)
