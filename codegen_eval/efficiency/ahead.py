"""One step ahead: the next item is made ready in a thread while the one before is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")


def one_ahead(make: Callable[[Item], Ready], items: Iterable[Item]) -> Iterator[Ready]:
    """`map(make, items)`, with one result made in advance. What `make` raises is raised in its turn."""
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        pending = [pool.submit(make, item) for item in _first(source)]
        while pending:
            ready = pending.pop().result()
            pending = [pool.submit(make, item) for item in _first(source)]
            yield ready


def _first(source: Iterator[Item]) -> Iterator[Item]:
    for item in source:
        yield item
        return
