"""Where a program runs, as its zygote must know it: small, since every zygote loads it."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """What is in force around a zygote and its children.

    Attributes:
        boxed: The zygote is pid 1 of its own namespaces: one signal ends all in it.
        filtered: System calls are filtered, so that a program makes no further process.
        limited: The kernel's resource limits are set.
        own_user: The user is nobody else's, so that a limit on its processes counts these alone.
    """

    boxed: bool
    filtered: bool
    limited: bool
    own_user: bool


FULL = Place(boxed=True, filtered=True, limited=True, own_user=True)
PROCESS = Place(boxed=False, filtered=False, limited=True, own_user=False)
