"""Progress of episodes as a reward (MRT, Qu et al. 2025, arXiv 2503.07572, definition 6.1).

J(prefix) is the share of right answers when the model is made to stop there and answer at once. The progress
of an episode is J after it minus J before it. Single values are noise (`standard_error`): only sums and means
carry signal. J, progress and rewards are float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError

FloatArray = NDArray[np.float64]


def j_curve(rollouts: Sequence[Sequence[float | None]]) -> FloatArray:
    """J after each prefix, (prefixes,): the mean reward of its forced stops; prefix 0 is the empty one.

    Args:
        rollouts: Rewards in [0, 1] of the stops after each prefix; None where the verifier could not tell:
            such a stop is left out.

    Raises:
        CodealignError: For no prefix, one whose stops are all unknown, or a reward outside [0, 1].
    """
    if not len(rollouts):
        raise CodealignError("a J curve needs at least the empty prefix")
    means = []
    for prefix, rewards in enumerate(rollouts):
        known = np.array([reward for reward in rewards if reward is not None], dtype=np.float64)
        if not known.size:
            raise CodealignError(f"prefix {prefix} has no forced stop of known reward: sample it again")
        if not ((known >= 0) & (known <= 1)).all():
            raise CodealignError(f"prefix {prefix} has rewards outside [0, 1]: {known.tolist()[:10]}")
        means.append(known.mean())
    return np.array(means)


def standard_error(j: ArrayLike, stops: int) -> FloatArray:
    """Standard error of J from 0/1 rewards: sqrt(J (1 - J) / stops), at most 0.5/sqrt(stops)."""
    if stops < 1:
        raise CodealignError(f"stops is {stops}: give 1 or more")
    j = np.asarray(j, dtype=np.float64)
    return np.asarray(np.sqrt(j * (1 - j) / stops))


def progress(j: ArrayLike) -> FloatArray:
    """J after minus J before each episode, (episodes,), from a curve (episodes + 1,).

    It sums to J(end) - J(empty).
    """
    j = np.asarray(j, dtype=np.float64)
    if j.ndim != 1 or not j.size:
        raise CodealignError(f"progress needs one curve (prefixes,), got {j.shape}")
    return np.diff(j)


def trace_reward(outcome: float, gains: ArrayLike, alpha: float) -> float:
    """Outcome + alpha x the sum of progress: one number for the end of a trace, the form to begin with."""
    return outcome + alpha * float(np.sum(np.asarray(gains, dtype=np.float64)))


def rewards_to_go(outcome: float, gains: ArrayLike, alpha: float) -> FloatArray:
    """Outcome + alpha x progress from each episode on, (episodes,): credit by episode.

    It needs more stops a prefix than the plain scalar does, for the noise is in every episode's own number.
    """
    gains = np.asarray(gains, dtype=np.float64)
    return outcome + alpha * gains[::-1].cumsum()[::-1]


def star_cut(j: ArrayLike) -> int:
    """Where MRT (STaR) cuts a trace: the first prefix of the largest J, by number of episodes kept."""
    return int(np.argmax(np.asarray(j, dtype=np.float64)))


def star_keep(j: ArrayLike, rollouts: Sequence[Sequence[float | None]]) -> bool:
    """Whether MRT (STaR) trains on the cut trace: J rose above J(empty), and a stop there was right."""
    j = np.asarray(j, dtype=np.float64)
    if len(rollouts) != j.size:
        raise CodealignError(f"a curve of {j.size} prefixes needs the stops of each, got {len(rollouts)}")
    cut = star_cut(j)
    return bool(j[cut] > j[0]) and any(reward == 1 for reward in rollouts[cut])


def bonus_rewards(continued: ArrayLike, j_end: ArrayLike, j_prefix: float, alpha: float) -> FloatArray:
    """Form (a): outcome + alpha (J_i - J_prefix), (rollouts,), for a group of rollouts that share a prefix.

    J_prefix is the same for the whole group, so it cancels against any baseline by group; only J_i, which
    differs by rollout, does anything. With J_i = outcome RLOO is merely scaled by 1 + alpha.

    Raises:
        CodealignError: For unequal shapes.
    """
    outcomes, ends = np.asarray(continued, dtype=np.float64), np.asarray(j_end, dtype=np.float64)
    if outcomes.shape != ends.shape or outcomes.ndim != 1:
        raise CodealignError(f"a group needs one J a rollout, got {outcomes.shape} and {ends.shape}")
    return outcomes + alpha * (ends - j_prefix)


def mixed_group(continued: ArrayLike, terminated: ArrayLike) -> FloatArray:
    """Form (b): rollouts that think on and forced stops as one group, so that "stop now" has an advantage.

    (rollouts + stops,), those that think on first: give it to RLOO or GRPO as one group.
    """
    return np.concatenate([np.asarray(x, dtype=np.float64).ravel() for x in (continued, terminated)])


def termination_advantages(continued: ArrayLike, terminated: ArrayLike) -> FloatArray:
    """Form (c): reward minus J_prefix, the mean of the forced stops, (rollouts,): the repository's README.

    A group whose every rollout fails behind a prefix that could already answer is pushed down; with the
    group's own mean as baseline it would teach nothing.

    Raises:
        CodealignError: Without stops.
    """
    j_prefix = j_curve([np.asarray(terminated, dtype=np.float64).tolist()])[0]
    return np.asarray(np.asarray(continued, dtype=np.float64) - j_prefix)
