"""Some steps ahead: the next items are made ready in threads while the one before is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")


def ahead(make: Callable[[Item], Ready], items: Iterable[Item], at_once: int) -> Iterator[Ready]:
    """`map(make, items)`, with `at_once` items under way. What `make` raises is raised in its turn."""
    source = iter(items)
    with ThreadPoolExecutor(at_once) as pool:
        pending: deque[Future[Ready]] = deque(pool.submit(make, item) for item in islice(source, at_once))
        while pending:
            ready = pending.popleft().result()
            pending.extend(pool.submit(make, item) for item in islice(source, 1))
            yield ready
