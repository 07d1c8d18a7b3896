"""Languages by name. Outsiders join by an entry point of the group `codealign.languages` that names a class.

A language of one's own:

    from sandbox.languages import base, register

    @register
    class Lua(base.Language):
        name, commands, remedy = "lua", ("lua5.4",), "apt install lua5.4"
        ...
"""

from __future__ import annotations

import difflib
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TypeVar

from .base import Language, LanguageUnavailable
from .report import Row, report

__all__ = ["Language", "LanguageUnavailable", "Row", "get", "names", "register", "report"]

GROUP = "codealign.languages"
_OWN = ("python", "cpp", "c", "javascript", "java")
_REGISTRY: dict[str, Language] = {}
_Kind = TypeVar("_Kind", bound=type[Language])


def register(kind: _Kind) -> _Kind:
    """Add a language under its name and aliases.

    Raises:
        ValueError: It has no name, or one of its names belongs to another language.
    """
    language = kind()
    if not language.name:
        raise ValueError(f"language class {kind.__name__} has no name")
    for name in (language.name, *language.aliases):
        other = _REGISTRY.get(name)
        if other is not None and type(other).__qualname__ != kind.__qualname__:
            raise ValueError(f"language name {name!r} of {kind.__name__} belongs to {type(other).__name__}")
    _REGISTRY.update(dict.fromkeys((language.name, *language.aliases), language))
    return kind


@cache
def _load() -> None:
    for name in _OWN:
        import_module(f"{__name__}.{name}")
    for point in entry_points(group=GROUP):
        found = point.load()
        if point.name not in _REGISTRY:
            register(found)


def names() -> tuple[str, ...]:
    """Names of all languages, without aliases."""
    _load()
    return tuple(sorted({language.name for language in _REGISTRY.values()}))


def get(name: str) -> Language:
    """A language by its name or an alias.

    Raises:
        ValueError: There is none of that name; the text lists what there is.
    """
    _load()
    found = _REGISTRY.get(name) if isinstance(name, str) else None
    if found is None:
        near = difflib.get_close_matches(str(name), _REGISTRY, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown language {name!r}{hint} There are: {', '.join(names())}")
    return found
