"""Task prompts from the functions of a Python source tree: signature and docstring stay, the body goes.

Nothing of the tree is imported or run. A prompt must stand alone, so annotations and defaults may use
builtins and what the module imports from the standard library; those imports come before the signature.
Methods, nested functions and coroutines are no tasks and are passed over.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import parse_statements

MAX_FILE_BYTES = 1_000_000
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([\w.+-]+(?: (?:OR|AND|WITH) [\w.+-]+)*)")


@dataclass(frozen=True, slots=True)
class Seed:
    """A documented function.

    Attributes:
        place: `FILE:LINE`, the file relative to the tree.
        name: Of the function.
        prompt: Imports, signature and docstring; a body may follow.
        source: The whole function as it stood.
        licence: What an SPDX line of its file says; empty where there is none.
    """

    place: str
    name: str
    prompt: str
    source: str
    licence: str


def read_tree(root: Path, counts: Counter[str]) -> Iterator[Seed]:
    """The seeds of all `*.py` files below a folder (hidden ones and links left out), in the files' order.

    Args:
        root: A folder, or one file.
        counts: Counts `seed_files*` and `seed_functions*`, by what became of them.

    Raises:
        CodealignError: There is no such folder or file.
    """
    if not root.exists():
        raise CodealignError(f"--seeds: no such folder or file: {root}")
    paths = [root] if root.is_file() else sorted(root.rglob("*.py"))
    for path in paths:
        inside = path.relative_to(root) if path != root else Path(path.name)
        if path.is_symlink() or any(part.startswith(".") for part in inside.parts) or not path.is_file():
            continue
        counts["seed_files"] += 1
        try:
            text = path.read_bytes()[: MAX_FILE_BYTES + 1].decode("utf-8-sig")
        except (OSError, UnicodeDecodeError):
            counts["seed_files_unreadable"] += 1
            continue
        if len(text) > MAX_FILE_BYTES:
            counts["seed_files_too_large"] += 1
            continue
        yield from seeds_of(text.replace("\r\n", "\n"), inside.as_posix(), counts)


def seeds_of(text: str, file: str, counts: Counter[str]) -> Iterator[Seed]:
    """The seeds of one module's text."""
    statements = parse_statements(text)
    if statements is None:
        counts["seed_files_unparsable"] += 1
        return
    found = _SPDX.search(text)
    lines = text.split("\n")
    imports = _stdlib_imports(statements)
    for node in statements:
        if not isinstance(node, ast.FunctionDef):
            continue
        counts["seed_functions"] += 1
        made = prompt_of(node, lines, imports)
        if made.startswith("!"):
            counts[f"seed_functions_{made[1:]}"] += 1
            continue
        counts["seed_functions_used"] += 1
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        yield Seed(f"{file}:{node.lineno}", node.name, made, source, found[1] if found else "")


def prompt_of(node: ast.FunctionDef, lines: list[str], imports: dict[str, str]) -> str:
    """The prompt of a function; `!reason` where it makes none.

    Args:
        node: The function.
        lines: Of its module.
        imports: What the module imports from the standard library, by name.
    """
    doc = ast.get_docstring(node)
    if not doc or not doc.strip():
        return "!without_docstring"
    if node.name.startswith(("test_", "__")):
        return "!tests_or_special"
    arguments = node.args
    if not any((arguments.posonlyargs, arguments.args, arguments.kwonlyargs, arguments.vararg)):
        return "!without_parameters"
    if node.decorator_list:
        return "!decorated"
    first = node.body[0]
    begin, end = first.lineno, first.end_lineno or first.lineno
    header = lines[node.lineno - 1 : begin - 1]
    if not header or not header[-1].split("#")[0].rstrip().endswith(":"):
        return "!on_one_line"
    indent = lines[begin - 1][: first.col_offset]
    if indent.strip():
        return "!on_one_line"
    # The model indents by four spaces, whatever the tree does.
    body = [
        line.replace(indent, "    ", 1) if line.startswith(indent) else line
        for line in lines[begin - 1 : end]
    ]
    needed = _names(node)
    if any(name not in imports and not hasattr(builtins, name) for name in needed):
        return "!needs_its_module"
    above = sorted({imports[name] for name in needed if name in imports})
    prompt = "\n".join([*above, *([""] * 2 if above else []), *header, *body]) + "\n"
    statements = parse_statements(prompt + "    pass\n")
    whole = statements is not None and isinstance(statements[-1], ast.FunctionDef)
    return prompt if whole and statements and len(statements) == len(above) + 1 else "!not_separable"


def _stdlib_imports(statements: list[ast.stmt]) -> dict[str, str]:
    """Names that the module imports from the standard library, each with a line that imports it alone."""
    found = {}
    for node in statements:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in sys.stdlib_module_names and (
                    alias.asname or "." not in alias.name
                ):
                    found[alias.asname or alias.name] = ast.unparse(ast.Import([alias]))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            known = node.module.split(".")[0] in sys.stdlib_module_names - {"__future__"}
            for alias in node.names if known else ():
                line = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
                found[alias.asname or alias.name] = line
    return found


def _names(node: ast.FunctionDef) -> set[str]:
    """Names that the signature reads."""
    parts: list[ast.AST] = [node.args, *([node.returns] if node.returns else [])]
    return {inner.id for part in parts for inner in ast.walk(part) if isinstance(inner, ast.Name)}
