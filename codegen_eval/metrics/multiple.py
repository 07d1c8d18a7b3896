"""Several tests at once: p values that hold for all of them together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.metrics.statistics import checked


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p values that bound the chance of any false finding among all tests (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, is not less than the one before it, and at most 1.

    Args:
        p_values: Shape (tests,), each in [0, 1].

    Raises:
        CodealignError: For no values, NaN or infinities.
    """
    values = checked(p_values)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted
