"""Where a precompiled header is kept between runs: the user's cache directory, one folder a compiler and
flags.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DONE = "complete"


def folder(kind: str, version: str, flags: tuple[str, ...]) -> str | None:
    """The folder for this compiler and these flags, made if it was not there; None where there is no place
    to write.
    """
    top = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codealign" / kind
    found = top / hashlib.sha256(repr((version, flags)).encode()).hexdigest()[:16]
    try:
        found.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return str(found) if complete(str(found)) or os.access(found, os.W_OK) else None


def complete(path: str) -> bool:
    """Whether its content is all there."""
    return (Path(path) / _DONE).exists()


class NotMade(Exception):
    """What was to be kept could not be made; programs compile without it."""


@contextmanager
def making(path: str) -> Iterator[bool]:
    """Hold the right to fill a folder: False when another process has it, or when the folder is filled. The
    folder counts as complete when the body ends without an exception.
    """
    with (Path(path) / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        if complete(path):
            yield False
            return
        yield True
        Path(path).chmod(0o755)
        (Path(path) / _DONE).touch()
        for other in Path(path).parent.iterdir():  # of an older compiler
            if other != Path(path) and complete(str(other)):
                shutil.rmtree(other, ignore_errors=True)
