"""Executors by name; other distributions join by the entry point group `codealign.executors`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .base import Executor

GROUP = "codealign.executors"
OURS = {"local": "local", "ray": "ray", "http": "http_client"}
_made: dict[str, Callable[..., Executor]] = {}
_Maker = TypeVar("_Maker", bound=Callable[..., Executor])


def register(name: str) -> Callable[[_Maker], _Maker]:
    """Decorator that files an executor under a name; a name already taken is a ValueError."""

    def file(maker: _Maker) -> _Maker:
        if _made.setdefault(name, maker) is not maker:
            raise ValueError(f"executor {name!r} is registered twice")
        return maker

    return file


def names() -> list[str]:
    """All names, ours first; nothing is imported for it."""
    others = {point.name for point in entry_points(group=GROUP)} | set(_made)
    return [*OURS, *sorted(others - set(OURS))]


def make_executor(name: str, **options: Any) -> Executor:
    """The executor called `name`, made with its own options.

    Raises:
        ValueError: There is none of that name; the text lists what there is.
        ModuleNotFoundError: It needs an extra that is not installed.
    """
    if name not in _made:
        if name in OURS:
            importlib.import_module(f"sandbox.executors.{OURS[name]}")
        else:
            for point in entry_points(group=GROUP, name=name):
                _made.setdefault(name, point.load())
    if name not in _made:
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown executor {name!r}; {hint}There are: {', '.join(names())}")
    return _made[name](**options)
