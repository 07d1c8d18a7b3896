"""Some steps ahead: the next items are made ready in threads while the one before is used or waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")

HELD = 4  # for each thread: so many items may be ready and wait for a slow one before them


def ahead(make: Callable[[Item], Ready], items: Iterable[Item], at_once: int) -> Iterator[Ready]:
    """`map(make, items)`, with `at_once` items under way. What `make` raises is raised in its turn.

    Meant for results that are small: some of them are held.
    """
    source = iter(items)
    pool = ThreadPoolExecutor(at_once)
    try:
        pending: deque[Future[Ready]] = deque(
            pool.submit(make, item) for item in islice(source, HELD * at_once)
        )
        while pending:
            ready = pending.popleft().result()
            pending.extend(pool.submit(make, item) for item in islice(source, 1))
            yield ready
    finally:
        pool.shutdown(cancel_futures=True)
