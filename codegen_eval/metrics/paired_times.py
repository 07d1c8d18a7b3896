"""How many times as long one thing takes as another, from rounds in which both were timed.

The speed of a shared machine's core drifts from second to second. Within a round both are timed one behind
the other, so their quotient drifts least; over rounds its median is taken, since what disturbs a measurement
disturbs it much. The error is that of a median of a normal sample, 1.2533 sigma / sqrt(n), with sigma from
the median absolute deviation (times 1.4826), so that a few wild rounds do not widen it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

_OF_A_MEDIAN = 1.2533141373155001  # sqrt(pi / 2)
_OF_A_DEVIATION = 1.482602218505602  # 1 / the normal distribution's upper quartile


@dataclass(frozen=True, slots=True, eq=False)
class Quotient:
    """How many times as long.

    Attributes:
        value: (...) the median over rounds.
        error: (...) its standard error.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def quotient(ours: ArrayLike, theirs: ArrayLike) -> Quotient:
    """Quotient `theirs / ours` of times that were taken in the same rounds.

    Args:
        ours: (..., rounds) seconds of what is compared with.
        theirs: Likewise, of what is compared.

    Raises:
        CodealignError: For no rounds, or times that are not positive and finite.
    """
    first, second = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if first.shape[-1:] != second.shape[-1:] or first.ndim == 0 or first.shape[-1] == 0:
        raise CodealignError(f"times of the same rounds are needed, not {first.shape} and {second.shape}")
    for times in (first, second):
        if not np.all(np.isfinite(times) & (times > 0)):
            raise CodealignError("a quotient needs times that are finite and more than 0")
    logs = np.log(second / first)
    middle = np.median(logs, axis=-1)
    sigma = _OF_A_DEVIATION * np.median(np.abs(logs - middle[..., None]), axis=-1)
    value = np.exp(middle)
    return Quotient(value, value * _OF_A_MEDIAN * sigma / np.sqrt(logs.shape[-1]))
