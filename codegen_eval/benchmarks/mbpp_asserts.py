"""What the asserts of an MBPP task say: the name of its function, and the types that MBPP+'s JSON has lost.

A tuple, set or complex number became a list or text when the inputs were written. The task's asserts still
show the types, so those at each depth of each argument are read from them. EvalPlus keeps a table of 62 tasks
instead; on the sanitised file both give the same but for six tasks whose asserts show tuples or sets that the
table leaves as lists (98, 104, 117, 140, 145, 582), and three where the table differs from the asserts (115,
143, 596: an argument that is {}, one that is a list, inner tuples).
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import parse_statements

_CONTAINERS = (list, tuple, set, frozenset, dict)
_NUMBERS = (int, float, complex)
# Types of containers by their depth, and by depth and whether they hold containers.
Kinds = dict[int | tuple[int, bool], set[type]]


def called(code: str, asserts: Sequence[str], where: str) -> str:
    """The function that asserts are about: the first they call that the code defines, else no builtin.

    Raises:
        CodealignError: One is not Python, or there is no such call.
    """
    parsed = [parse_statements(text) for text in (code, *asserts)]
    if any(body is None for body in parsed):
        raise CodealignError(f"{where}: code or asserts are not Python")
    own, *rest = (body or [] for body in parsed)
    defined = {getattr(node, "name", "") for node in own}
    nodes = [node for body in rest for statement in body for node in ast.walk(statement)]
    names = [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    names = [name for name in names if name in defined] or [n for n in names if not hasattr(builtins, n)]
    if not names:
        raise CodealignError(f"{where}: no assert calls a function")
    return names[0]


def literal_calls(source: str, entry_point: str) -> list[tuple[Any, ...]]:
    """Arguments of the calls of a function in a source, in order; calls with other than literals left out."""
    found = []
    for node in (node for statement in parse_statements(source) or [] for node in ast.walk(statement)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == entry_point:
            try:
                found.append(tuple(_literal(argument) for argument in node.args))
            except (ValueError, TypeError):
                continue
    return found


def restored(inputs: Sequence[Sequence[Any]], calls: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The inputs with the types that the calls show.

    A list becomes what all calls have at its depth of that argument. Where they differ, those count that hold
    containers as it does, or hold none as it does; where these differ too it stays a list, but where they are
    sets and empty dicts it becomes a set, or {} if empty. Deeper than any call, it becomes a tuple if they
    have tuples at every depth. Text where all calls have numbers becomes a number.
    """
    return [
        tuple(_restored(value, 0, *_shown(calls, place)) for place, value in enumerate(arguments))
        for arguments in inputs
    ]


def _literal(node: ast.expr) -> Any:
    """A literal value; `set()` and `(1)j` are no literals of `ast`, the first is one here."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "set":
        return set(_literal(node.args[0])) if node.args else set()
    return ast.literal_eval(node)


def _shown(calls: Sequence[tuple[Any, ...]], place: int) -> tuple[Kinds, set[type]]:
    """Containers by depth, and types of the argument itself."""
    kinds: Kinds = {}
    values = [call[place] for call in calls if len(call) > place]
    for value in values:
        _collect(value, 0, kinds)
    return kinds, {type(value) for value in values}


def _collect(value: Any, depth: int, kinds: Kinds) -> None:
    if isinstance(value, _CONTAINERS):
        for key in (depth, (depth, _nested(_items(value)))):
            kinds.setdefault(key, set()).add(type(value))
        for item in _items(value):
            _collect(item, depth + 1, kinds)


def _items(value: Any) -> Iterator[Any]:
    yield from value.values() if isinstance(value, dict) else value


def _nested(items: Iterable[Any]) -> bool:
    return any(isinstance(item, _CONTAINERS) for item in items)


def _restored(value: Any, depth: int, kinds: Kinds, types: set[type]) -> Any:
    if isinstance(value, dict):
        return {key: _restored(item, depth + 1, kinds, set()) for key, item in value.items()}
    if isinstance(value, str) and depth == 0 and types and types <= set(_NUMBERS):
        return _number(value, complex in types)
    if not isinstance(value, list):
        return value
    items = [_restored(item, depth + 1, kinds, set()) for item in value]
    shown = kinds.get(depth)
    if shown is None:
        shown = {tuple} if kinds and all(kind == {tuple} for kind in kinds.values()) else {list}
    elif len(shown) > 1:
        shown = kinds.get((depth, _nested(value)), shown)
    if shown == {set, dict}:
        return set(items) if items else {}
    (kind,) = shown if len(shown) == 1 else (list,)
    return items if kind in (list, dict) else kind(items)


def _number(value: str, is_complex: bool) -> Any:
    for kind in (complex,) if is_complex else (float, complex):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
