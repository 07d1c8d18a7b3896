"""Weighted draws of pairs without replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw(weights: Sequence[float], count: int, rng: np.random.Generator) -> list[int]:
    """Up to `count` distinct indices, each next one drawn with probability proportional to the weights left.

    The draws come from one uniform number per index (Efraimidis and Spirakis 2006: the largest u^(1/w)), so
    that an index keeps its number whatever the others weigh.
    """
    if not weights:
        return []
    keys = np.log(1.0 - rng.random(len(weights))) / np.asarray(weights, dtype=np.float64)
    return [int(i) for i in np.argsort(-keys, kind="stable")[:count]]
