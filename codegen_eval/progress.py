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

    rate = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(description), total=total, rate="")
        start = time.monotonic()
        for done, item in enumerate(iterable, 1):
            yield item
            per_second = done / max(time.monotonic() - start, 1e-9)
            progress.update(task, advance=1, rate=f"{per_second:.3g}/s")


def _lines(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - last >= LINE_SECONDS:
            last = now
            print(f"{description}: {_state(done, total, now - start)}", file=sys.stderr, flush=True)  # noqa: T201


def _state(done: int, total: int, seconds: float) -> str:
    """How far it is, how fast, and how long it still takes at that rate."""
    rate = done / max(seconds, 1e-9)
    return f"{done}/{total} ({seconds:.0f} s, {rate:.3g}/s, {max(total - done, 0) / rate:.0f} s left)"
