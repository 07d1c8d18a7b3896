"""What of a Python text an entry point reaches, and what it lacks.

Works on the top-level statements and the names that they bind and read, scopes taken from `symtable` (which
reads, and runs nothing). Names in strings and in `globals()` are not seen.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from codegen_eval.extraction.parsing import PARSE_ERRORS, misplaced, parse_statements

_IMPORTS = (ast.Import, ast.ImportFrom)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
# Calls at top level that set something up and need nothing of the text.
_PREPARING = frozenset(
    {"setrecursionlimit", "set_int_max_str_digits", "stack_size", "seed", "manual_seed", "basicConfig"}
    | {"filterwarnings", "simplefilter", "use"}
)
_ROUNDS = 50
_GLOBALS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__builtins__", "__annotations__"}


@dataclass(frozen=True, slots=True)
class Group:
    """Top-level statements that share lines.

    Attributes:
        text: Their lines with the comments and blank lines above, each with its newline.
        kind: `import`, `definition` (functions, classes, assignments) or `action`.
        binds: Names of the module that they bind.
        touches: Names whose value they change: `table.append(1)` touches `table`.
        reads: Names of the module that they read, now or when they are called.
        prepares: Calls such as `sys.setrecursionlimit(10**6)`.
        future: A `from __future__` import, which must stand first.
    """

    text: str
    kind: str
    binds: frozenset[str]
    touches: frozenset[str]
    reads: frozenset[str]
    prepares: bool
    future: bool


def groups(source: str) -> list[Group] | None:
    """The top-level statements of a text; None where it is not Python. What follows the last is left out."""
    body = parse_statements(source)
    if body is None or misplaced(body):
        return None
    lines = source.split("\n")
    found: list[Group] = []
    nodes: list[ast.stmt] = []
    begin = 0
    for i, node in enumerate(body):
        nodes.append(node)
        end = node.end_lineno or node.lineno
        if i + 1 < len(body) and _first_line(body[i + 1]) <= end:
            continue
        found.append(_group(nodes, "\n".join(lines[begin:end]) + "\n"))
        nodes, begin = [], end
    return found


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return int(min([node.lineno, *(d.lineno for d in decorators)]))


def _group(nodes: Sequence[ast.stmt], text: str) -> Group:
    binds, reads = _names(nodes, text)
    kinds = {_kind(node) for node in nodes}
    future = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in nodes)
    kind = kinds.pop() if len(kinds) == 1 else "action"
    return Group(text, kind, binds, _touched(nodes), reads, all(map(_prepares, nodes)), future)


def _kind(node: ast.stmt) -> str:
    if isinstance(node, _IMPORTS):
        return "import"
    if isinstance(node, ast.Try) and all(isinstance(n, _IMPORTS) for n in node.body):
        return "import"
    return "definition" if isinstance(node, _DEFINITIONS) else "action"


def _names(nodes: Sequence[ast.stmt], text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the module that statements bind and read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = symtable.symtable(text, "answer", "exec")
    except PARSE_ERRORS:
        return _rough_names(nodes)
    binds = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    binds |= {s.get_name() for s in table.get_symbols() if s.is_namespace()}
    reads = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
    waiting = list(table.get_children())
    while waiting:
        scope = waiting.pop()
        waiting += scope.get_children()
        for symbol in scope.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                reads.add(symbol.get_name())
            if symbol.is_global() and symbol.is_assigned():
                binds.add(symbol.get_name())
    return frozenset(binds), frozenset(reads)


def _rough_names(nodes: Sequence[ast.stmt]) -> tuple[frozenset[str], frozenset[str]]:
    """As `_names`, without scopes, for what has no symbol table."""
    binds: set[str] = set()
    reads: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            binds.add(node.name)
        for name in ast.walk(node):
            if isinstance(name, ast.Name):
                (reads if isinstance(name.ctx, ast.Load) else binds).add(name.id)
    return frozenset(binds), frozenset(reads)


def _touched(nodes: Sequence[ast.stmt]) -> frozenset[str]:
    """Roots of `a.b = `, `a[i] = `, `a.call()` in statements, the bodies of functions and classes aside."""
    found = set()
    waiting: list[ast.AST] = [n for n in nodes if not hasattr(n, "decorator_list")]
    while waiting:
        node = waiting.pop()
        waiting += ast.iter_child_nodes(node)
        target: ast.AST | None = None
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
        if isinstance(target, ast.Name):
            found.add(target.id)
    return frozenset(found)


def _prepares(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    return named and call.func.attr in _PREPARING  # type: ignore[union-attr]


def reached(parts: Sequence[Group], root: str, also: frozenset[str] = frozenset()) -> list[Group]:
    """The statements that the name `root` needs: imports, what it reads and what that reads, and actions that
    prepare those values. Uses of `root` itself, as prints, tests and `if __name__`, are not among them.

    Args:
        parts: All statements of a text.
        root: The entry point's name.
        also: Further names whose definitions stay.
    """
    imported = {name for part in parts if part.kind == "import" for name in part.binds}
    makers: dict[str, list[int]] = defaultdict(list)
    for i, part in enumerate(parts):
        for name in _made(part, root, imported):
            makers[name].append(i)
    needed = {root, *also}
    waiting = [root, *also]
    kept: set[int] = set()
    while waiting:
        for i in makers[waiting.pop()]:
            if i not in kept:
                kept.add(i)
                new = parts[i].reads - needed
                needed |= new
                waiting += new
    return [p for i, p in enumerate(parts) if i in kept or p.kind == "import" or p.prepares]


def _made(part: Group, root: str, imported: set[str]) -> frozenset[str]:
    """The names for whose sake a statement is kept."""
    if part.kind == "definition":
        return part.binds | part.touches
    if part.kind == "import" or root in part.reads or "__name__" in part.reads:
        return frozenset()
    return part.binds | (part.touches - imported)


def missing(parts: Sequence[Group]) -> set[str]:
    """Names that statements read, that none of them binds and that are not built in."""
    bound = {name for part in parts for name in part.binds}
    return {name for part in parts for name in part.reads} - bound - _GLOBALS


def lacking(parts: Sequence[Group], donor: Sequence[Group], keep_out: str) -> list[Group]:
    """Statements of another text that bind what `parts` read and do not have, in that text's order.

    Args:
        parts: The program.
        donor: Imports and definitions that may be put in front of it.
        keep_out: A name whose definition is not taken, the entry point's.
    """
    usable = [d for d in donor if d.kind != "action" and keep_out not in d.binds]
    taken: set[int] = set()
    for _ in range(_ROUNDS):
        names = missing([*(usable[i] for i in taken), *parts])
        new = {i for i, d in enumerate(usable) if i not in taken and d.binds & names}
        if not new:
            break
        taken |= new
    return [usable[i] for i in sorted(taken)]
