"""Where a program runs, as its zygote must know it: small, since every zygote loads it."""

from __future__ import annotations

from typing import NamedTuple

from .seccomp import BOXED, OWN_FILES, READING


class Place(NamedTuple):
    """What is in force around a zygote and its children.

    Attributes:
        boxed: The zygote is pid 1 of its own namespaces: one signal ends all in it.
        landlock: Landlock bounds what is read and written.
        filter: Which filter of system calls (see seccomp.py); empty for none. With one, a program makes no
            further process.
        limited: The kernel's resource limits are set.
        own_user: The user is nobody else's, so that a limit on its processes counts these alone.
    """

    boxed: bool
    landlock: bool
    filter: str
    limited: bool
    own_user: bool


PLACES = {
    "full": Place(boxed=True, landlock=True, filter=BOXED, limited=True, own_user=True),
    "filter": Place(boxed=False, landlock=True, filter=OWN_FILES, limited=True, own_user=False),
    "seccomp": Place(boxed=False, landlock=False, filter=READING, limited=True, own_user=False),
    "process": Place(boxed=False, landlock=False, filter="", limited=True, own_user=False),
    "none": Place(boxed=False, landlock=False, filter="", limited=False, own_user=False),
}
