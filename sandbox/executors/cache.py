"""Results of earlier runs, by content."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from ..verdict import Result
from . import wire


class ResultCache:
    """A store of results; thread-safe, and shared by processes where it is a file.

    What depends on the machine's load is not kept: a program that ran out of wall time is run again. Nor is
    anything that could not be run.

    Args:
        path: An SQLite file; None keeps the results in memory.
        size: How many results are kept; the oldest ones go first.
    """

    def __init__(self, path: str | Path | None = None, size: int = 100_000) -> None:
        if size < 1:
            raise ValueError(f"size is {size}; give a number >= 1")
        self._size = size
        self._lock = threading.Lock()
        self._base = sqlite3.connect(
            ":memory:" if path is None else str(path),
            check_same_thread=False,
            isolation_level=None,
            timeout=30,
        )
        if path is not None:
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.execute(
            "CREATE TABLE IF NOT EXISTS results "
            "(number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, body BLOB NOT NULL)"
        )

    def __len__(self) -> int:
        with self._lock:
            return int(self._base.execute("SELECT count(*) FROM results").fetchone()[0])

    def get(self, key: str) -> Result | None:
        """The result of an equal run; None when there is none that can be read."""
        with self._lock:
            row = self._base.execute("SELECT body FROM results WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return wire.from_json(Result, wire.loads(row[0]))
        except wire.WireError:
            return None

    def put(self, key: str, result: Result) -> None:
        """Keep a result."""
        if any(cell.cause == "wall" for cell in result.cells) or result.cause in (
            "wall",
            "worker killed twice",
        ):
            return
        body = wire.dumps(wire.to_json(result))
        with self._lock:
            cursor = self._base.execute(
                "INSERT OR REPLACE INTO results (key, body) VALUES (?, ?)", (key, body)
            )
            self._base.execute(
                "DELETE FROM results WHERE number <= ?", ((cursor.lastrowid or 0) - self._size,)
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()
