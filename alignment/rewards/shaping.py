"""Terms for the form of an answer in tokens: its length, whether it ended by itself, and its KL.

Whether an on-policy trainer takes the KL off its rewards is its own option (alignment/onpolicy); `minus_kl`
serves samples that were drawn and scored before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from alignment.rewards.protocol import Reward, Rewards
from alignment.rewards.registry import REWARDS
from codegen_eval.errors import CodealignError


def overlong(tokens: int, limit: int, buffer: int) -> float:
    """DAPO's soft punishment of length (arXiv 2503.14476, eq. 13).

    Args:
        tokens: Of the answer, its end token included.
        limit: From here on -1.
        buffer: Tokens before it in which the punishment grows from 0.
    """
    if tokens <= limit - buffer:
        return 0.0
    return -1.0 if tokens > limit else (limit - buffer - tokens) / buffer


@REWARDS.register("length")
def length(*, limit: int, buffer: int) -> Reward:
    """A reward from -1 to 0: the longer an answer is above `limit - buffer` tokens, the less.

    Raises:
        CodealignError: If buffer is not from 1 to limit.
    """
    if not 1 <= buffer <= limit:
        raise CodealignError(
            f"buffer is {buffer}, limit {limit}: the buffer lies within the limit, 1 or more"
        )

    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **_: Any,
    ) -> Rewards:
        return [overlong(len(ids), limit, buffer) for ids in _ids(completion_ids, "length")]

    return _bounded(reward, "length", -1.0, 0.0)


@REWARDS.register("finished")
def finished(*, eos_token_id: int | Sequence[int]) -> Reward:
    """A reward of 1 for an answer that ended by itself, with one of these tokens, else 0.

    Raises:
        CodealignError: For no token.
    """
    ends = {eos_token_id} if isinstance(eos_token_id, int) else set(eos_token_id)
    if not ends or not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise CodealignError(f"eos_token_id is {eos_token_id!r}: give the id, or ids, of end tokens")

    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **_: Any,
    ) -> Rewards:
        found = _ids(completion_ids, "finished")
        return [float(len(ids) > 0 and int(ids[-1]) in ends) for ids in found]

    return _bounded(reward, "finished", 0.0, 1.0)


def minus_kl(
    rewards: Sequence[float | None],
    logps: Sequence[float | None],
    ref_logps: Sequence[float | None],
    beta: float,
) -> Rewards:
    """Reward - beta (log p(y|x) - log p_ref(y|x)), by sequence (RAFT, arXiv 2304.06767, section 3.3).

    Args:
        rewards: None stays None.
        logps: Summed log-probabilities under the model that drew the sample.
        ref_logps: Likewise under the reference.
        beta: 0 or more.

    Raises:
        CodealignError: For a beta below 0, or a scored sample without log-probabilities.
    """
    if not (math.isfinite(beta) and beta >= 0):
        raise CodealignError(f"beta is {beta}: give a finite number, 0 or more")
    if beta == 0:
        return list(rewards)
    shaped: Rewards = []
    for place, (reward, logp, ref) in enumerate(zip(rewards, logps, ref_logps, strict=True)):
        if reward is None:
            shaped.append(None)
        elif logp is None or ref is None or not math.isfinite(logp - ref):
            raise CodealignError(f"sample {place} has log-probabilities {logp} and {ref}: beta needs both")
        else:
            shaped.append(reward - beta * (logp - ref))
    return shaped


def _ids(completion_ids: Sequence[Sequence[int]] | None, name: str) -> Sequence[Sequence[int]]:
    if completion_ids is None:
        raise CodealignError(f"reward {name!r} counts tokens: the trainer must give completion_ids")
    return completion_ids


def _bounded(reward: Any, name: str, low: float, high: float) -> Reward:
    reward.__name__, reward.bounds = name, (low, high)
    given: Reward = reward
    return given
