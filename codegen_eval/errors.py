"""The error that a user can mend, and how unknown names are answered."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 20


class CodealignError(ValueError):
    """What is wrong, which value, what to do: the command line prints it, no traceback, and exits with 2."""


def nearest_first(name: str, known: Iterable[str]) -> list[str]:
    """All `known` names, the most similar to `name` first; ties in alphabetical order."""
    similarity = {
        other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio() for other in known
    }
    return sorted(similarity, key=lambda other: (-similarity[other], other))


def unknown(kind: str, name: str, known: Iterable[str]) -> CodealignError:
    """The error for a name that nobody knows: it gives the nearest name, then all there are (at most 20)."""
    ranked = nearest_first(name, known)
    if not ranked:
        return CodealignError(f"unknown {kind} {name!r}: there is none")
    more = f" and {len(ranked) - _LISTED} more" if len(ranked) > _LISTED else ""
    close = difflib.SequenceMatcher(None, name.lower(), ranked[0].lower()).ratio() >= 0.5
    hint = f"did you mean {ranked[0]!r}? " if close else ""
    return CodealignError(f"unknown {kind} {name!r}; {hint}There are: {', '.join(ranked[:_LISTED])}{more}")
