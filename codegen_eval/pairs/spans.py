"""Where two programs differ: what segment-weighted losses (Focused-DPO, arXiv 2502.11475) need of a pair."""

from __future__ import annotations

from itertools import takewhile


def common_ends(chosen: str, rejected: str) -> tuple[int, int]:
    """Characters of the longest common prefix, and of the longest common suffix of what is left.

    `chosen[prefix : len(chosen) - suffix]` and likewise for rejected are the differing middles; one of them
    may be empty, both only for equal texts.
    """
    prefix = _equal_start(chosen, rejected)
    return prefix, _equal_start(chosen[prefix:][::-1], rejected[prefix:][::-1])


def _equal_start(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
