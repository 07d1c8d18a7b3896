"""Resource limits of a process, setrlimit(2)."""

from __future__ import annotations

import resource


def limit(kind: int, soft: int, hard: int = 0) -> None:
    """Set a limit of this process; never above the hard one that it was started with.

    Args:
        kind: One of `resource.RLIMIT_*`.
        soft: The limit.
        hard: Where the program itself could raise it to; by default no further.
    """
    most = resource.getrlimit(kind)[1]
    hard = max(soft, hard)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))
