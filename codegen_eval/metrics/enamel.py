"""ENAMEL's efficiency score of one sample (Qiu et al. 2024, arXiv 2406.06647, section 3).

Per test the Hodges-Lehmann estimate of its repetitions; per level the slowest test; one time limit for all
levels, alpha times the reference's slowest level; per level how much of the way from the limit to the
reference is saved; then the mean of the levels, weighted by hardness. A level that was not completed scores 0
(right-censored), a level of weight 0 is there for correctness only. Scores are not clipped at 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from codegen_eval.errors import CodealignError

HARDNESS = (0.0, 3.0, 3.0, 4.0)
ALPHA = 2.0
Level = Sequence[ArrayLike]  # one array of repetitions a test


@dataclass(frozen=True, slots=True)
class EfficiencyScore:
    """Score of a sample.

    Attributes:
        value: The weighted mean of the level scores, at most alpha / (alpha - 1); 0 for a wrong sample.
        levels: Score of each level; None for levels of weight 0.
        time_limit: Seconds at which a level scores 0.
    """

    value: float
    levels: tuple[float | None, ...]
    time_limit: float


def hodges_lehmann(seconds: ArrayLike) -> float:
    """Median of the averages (t_i + t_j) / 2 over all i <= j.

    Raises:
        CodealignError: For no times, or times that are not finite and not negative.
    """
    times = _times(seconds)
    first, second = np.triu_indices(len(times))
    return float(np.median((times[first] + times[second]) / 2))


def level_seconds(level: Level) -> float:
    """Time of a level: the slowest of its tests, each by its Hodges-Lehmann estimate.

    Raises:
        CodealignError: For a level without tests, and as for `hodges_lehmann`.
    """
    if len(level) == 0:
        raise CodealignError("a level needs at least one test")
    return max(hodges_lehmann(test) for test in level)


def time_limit(reference: Sequence[float], hardness: Sequence[float], alpha: float) -> float:
    """Alpha times the slowest reference level that counts, in seconds.

    Args:
        reference: Seconds of each level; levels of weight 0 are not looked at.
        hardness: Weight of each level.
        alpha: More than 1.

    Raises:
        CodealignError: If alpha <= 1, weights are negative or all 0, or the numbers of levels differ.
    """
    _check_weights(reference, hardness, alpha)
    return alpha * max(float(t) for t, weight in zip(reference, hardness, strict=True) if weight > 0)


def score_levels(
    reference: Sequence[float],
    candidate: Sequence[float | None],
    hardness: Sequence[float] = HARDNESS,
    alpha: float = ALPHA,
) -> EfficiencyScore:
    """Score from the time of each level: f = max(0, T - t) / (T - t_ref), eq. 4 to 6 of the paper.

    Args:
        reference: Seconds of the reference on each level.
        candidate: Seconds of the sample; None or infinity for a level that it did not complete: that level
            and all later ones score 0.
        hardness: Weight of each level.
        alpha: Of the time limit.

    Raises:
        CodealignError: As for `time_limit`; for times that are NaN or negative.
    """
    limit = time_limit(reference, hardness, alpha)
    if len(candidate) != len(reference):
        raise CodealignError(f"the sample has {len(candidate)} levels, the reference {len(reference)}")
    scores: list[float | None] = []
    censored = False
    for theirs, ours, weight in zip(candidate, reference, hardness, strict=True):
        seconds = math.inf if theirs is None else float(theirs)
        if math.isnan(seconds) or seconds < 0:
            raise CodealignError(f"a level took {theirs} seconds; give a time, or None where it was cut")
        censored = censored or math.isinf(seconds)
        if weight == 0:
            scores.append(None)
        else:
            scores.append(0.0 if censored else max(0.0, limit - seconds) / (limit - float(ours)))
    total = sum(w * s for w, s in zip(hardness, scores, strict=True) if s is not None)
    return EfficiencyScore(total / sum(hardness), tuple(scores), limit)


def efficiency_score(
    reference: Sequence[Level],
    candidate: Sequence[Level | None],
    hardness: Sequence[float] = HARDNESS,
    alpha: float = ALPHA,
    *,
    correct: bool = True,
) -> EfficiencyScore:
    """Score from repeated measurements.

    Args:
        reference: Seconds of the reference, [level][test][repetition].
        candidate: Those of the sample; None for a level that it did not complete.
        hardness: Weight of each level.
        alpha: Of the time limit.
        correct: Whether every answer was right; a wrong sample scores 0.

    Raises:
        CodealignError: As for `score_levels`.
    """
    ours = [
        level_seconds(level) if weight > 0 else 0.0
        for level, weight in zip(reference, hardness, strict=False)
    ]
    if len(reference) != len(hardness):
        raise CodealignError(f"the reference has {len(reference)} levels for {len(hardness)} weights")
    theirs = [None if level is None else level_seconds(level) for level in candidate]
    found = score_levels(ours, theirs, hardness, alpha)
    if correct:
        return found
    levels = tuple(None if score is None else 0.0 for score in found.levels)
    return EfficiencyScore(0.0, levels, found.time_limit)


def _times(seconds: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    times = np.asarray(seconds, dtype=np.float64)
    if times.ndim != 1 or times.size == 0:
        raise CodealignError(f"a test needs at least one measured time, got an array of shape {times.shape}")
    if not np.all(np.isfinite(times)) or np.any(times < 0):
        raise CodealignError(f"a time must be finite and not negative, got {times.tolist()[:6]}")
    return times


def _check_weights(reference: Sequence[float], hardness: Sequence[float], alpha: float) -> None:
    if not (alpha > 1 and math.isfinite(alpha)):
        raise CodealignError(f"alpha must be more than 1, got {alpha}")
    if len(reference) != len(hardness):
        raise CodealignError(f"the reference has {len(reference)} levels for {len(hardness)} weights")
    if not all(weight >= 0 and math.isfinite(weight) for weight in hardness) or sum(hardness) == 0:
        raise CodealignError(f"hardness needs weights >= 0, not all 0, got {tuple(hardness)}")
    for level, (seconds, weight) in enumerate(zip(reference, hardness, strict=True)):
        if weight > 0 and not (seconds > 0 and math.isfinite(seconds)):
            raise CodealignError(f"the reference took {seconds} seconds on level {level}; give a time > 0")
