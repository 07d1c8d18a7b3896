"""Progress on stderr: a bar on a terminal, a plain line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

LINE_SECONDS = 10.0


def track(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yields the items of `iterable` and shows how many of `total` are through."""
    if sys.stderr.isatty():
        yield from _bar(iterable, total, description)
    else:
        yield from _lines(iterable, total, description)


def _bar(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(description), total=total)
        for item in iterable:
            yield item
            progress.advance(task)


def _lines(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            print(f"{description}: {done}/{total} ({now - start:.0f} s)", file=sys.stderr, flush=True)  # noqa: T201
