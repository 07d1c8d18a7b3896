"""One dict filled by a decorator; other distributions join by entry point."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from codegen_eval.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind.

    Args:
        kind: What one entry is called in messages, e.g. "ranker".
        entry_point_group: Group under which other distributions offer entries; loaded only when asked for.
        package: A package of ours whose modules register themselves; imported only when asked for.
    """

    def __init__(self, kind: str, entry_point_group: str, package: str | None = None) -> None:
        self.kind = kind
        self._group = entry_point_group
        self._package = package
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated thing under `name`; a name already taken is a ValueError."""

        def file(thing: T) -> T:
            known = self._entries.get(name)
            if known is not None and known is not thing:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = thing
            return thing

        return file

    def get(self, name: str) -> T:
        """The entry called `name`; a miss is a CodealignError that lists what there is, nearest first."""
        if name not in self._entries:
            self._import_module(name)
        if name not in self._entries:
            for point in entry_points(group=self._group, name=name):
                self._entries.setdefault(name, point.load())
        if name not in self._entries:
            raise unknown(self.kind, name, self.names())
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted; modules of our own are imported for it, other distributions' entries are not."""
        if self._package is not None:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
        return sorted(set(self._entries) | {point.name for point in entry_points(group=self._group)})

    def _import_module(self, name: str) -> None:
        """Imports the module of our package that bears the entry's name, if any: the others stay unloaded."""
        if self._package is None or not name.isidentifier():
            return
        package = importlib.import_module(self._package)
        if any(module.name == name for module in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{self._package}.{name}")
