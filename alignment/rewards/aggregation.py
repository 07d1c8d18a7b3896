"""One reward from the scores of k members (Coste et al. 2023, arXiv 2310.02743, section 4).

mean = average of the members; WCO (worst case) = the lowest member; UWO (uncertainty weighted) = mean -
lambda x variance. The variance is that of the members, never their standard deviation, and by default the
population's (divided by k, the paper's eq. 5); the authors' PPO code divides by k - 1, which is `ddof=1`.
Members must be on one scale: minima and variances of raw scores compare units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError, unknown

FloatArray = NDArray[np.float64]
Objective = Literal["mean", "wco", "uwo"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """What an ensemble says of samples; every array has the samples' shape.

    Attributes:
        rewards: By the objective.
        mean: Over the members.
        variance: Over the members, by the chosen convention.
        lowest: Which member gave the lowest score (the first of equals): under WCO it decides.
    """

    rewards: FloatArray
    mean: FloatArray
    variance: FloatArray
    lowest: NDArray[np.int64]


def aggregate(
    scores: ArrayLike,
    objective: Objective,
    *,
    lam: float = 0.5,
    ddof: int = 0,
    members: Sequence[str] | None = None,
) -> Aggregate:
    """Combines members' scores.

    Args:
        scores: Shape (..., k), the last axis is the members'; higher is better.
        objective: "mean", "wco" or "uwo".
        lam: UWO's lambda, in one over the scores' unit; 0 is the mean.
        ddof: 0 divides the variance by k, 1 by k - 1 (with one member the variance is 0 either way).
        members: Names for messages.

    Raises:
        CodealignError: For an unknown objective, no members, a lambda below 0, or a score that is missing
            (NaN) or infinite; member and sample are named.
    """
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    if not (math.isfinite(lam) and lam >= 0):
        raise CodealignError(f"lambda must be a finite number, 0 or more (given: {lam})")
    if ddof not in (0, 1):
        raise CodealignError(f"ddof must be 0 (population) or 1 (sample variance), given: {ddof}")
    array = checked_scores(scores, members)
    mean = array.mean(axis=-1)
    k = array.shape[-1]
    variance = np.zeros_like(mean) if k == 1 else array.var(axis=-1, ddof=ddof)
    lowest = array.argmin(axis=-1)
    if objective == "wco":
        rewards = array.min(axis=-1)
    else:
        rewards = mean - lam * variance if objective == "uwo" else mean
    return Aggregate(rewards, mean, variance, lowest)


def checked_scores(scores: ArrayLike, members: Sequence[str] | None = None) -> FloatArray:
    """The scores as float64, shape (..., k).

    Raises:
        CodealignError: For no members, another number of members than names, or a score that is no finite
            number; member and sample are named. No member is ever left out.
    """
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 1 or array.shape[-1] == 0:
        raise CodealignError(f"an ensemble needs scores of at least one member, got shape {array.shape}")
    if members is not None and len(members) != array.shape[-1]:
        raise CodealignError(f"{len(members)} members are named, but there are scores of {array.shape[-1]}")
    if not np.isfinite(array).all():
        *sample, member = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        name = repr(members[member]) if members is not None else str(member)
        where = sample[0] if len(sample) == 1 else tuple(sample)
        raise CodealignError(
            f"member {name} has no finite score for sample {where} ({array[(*sample, member)]}); a member is "
            "never left out of an ensemble: score the sample again or leave the sample out"
        )
    return array


@dataclass(frozen=True, slots=True)
class Calibration:
    """A member's scale: mean and standard deviation of its scores on one fixed set, saved with the member."""

    mean: float
    std: float
    samples: int

    def apply(self, scores: ArrayLike) -> FloatArray:
        """The scores in standard deviations from the calibration set's mean."""
        result: FloatArray = (np.asarray(scores, dtype=np.float64) - self.mean) / self.std
        return result


def calibrate(scores: ArrayLike, *, floor: float = 0.0, name: str = "this member") -> Calibration:
    """Mean and sample standard deviation of a member's scores on the calibration set.

    Args:
        scores: One score a sample, shape (samples,).
        floor: Least standard deviation: pass rates of a suite that nearly everything passes would otherwise
            be blown up.
        name: Of the member, for messages.

    Raises:
        CodealignError: For fewer than two scores, one that is not finite, or no spread and no floor.
    """
    array = np.asarray(scores, dtype=np.float64).ravel()
    if len(array) < 2 or not np.isfinite(array).all():
        raise CodealignError(
            f"{name} needs two or more finite scores to be calibrated, got {len(array)}, "
            f"{int(np.isfinite(array).sum())} of them finite"
        )
    std = max(float(array.std(ddof=1)), floor)
    if not std > 0:
        raise CodealignError(
            f"{name} gives every calibration sample the score {array[0]:.6g}: it has no scale; use other "
            "calibration samples, or a floor above 0 for its standard deviation"
        )
    return Calibration(float(array.mean()), std, len(array))
