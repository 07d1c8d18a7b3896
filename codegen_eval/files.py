"""Files that are either complete or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TEMPORARY = ".tmp."


def write_whole(target: Path, chunks: Iterable[bytes], *, among_others: bool = False) -> None:
    """Writes `target` under a temporary name, flushes it to the disk and renames it.

    Args:
        target: The file.
        chunks: Its content.
        among_others: It is one of many that are made anew where they are missing: a machine that goes down in
            the next seconds may forget its name. Its content is on the disk before it has that name.
    """
    temporary = target.with_name(f"{TEMPORARY}{target.name}")
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError:
        # A full disk must not be kept full by the half that was written.
        temporary.unlink(missing_ok=True)
        raise
    if among_others:
        return
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
