"""Several rewards added with weights, each part logged by itself.

Where one part has no reward (None), the row has none: a sum over what is left would pay the others' absence.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignment.rewards.protocol import LogExtra, LogMetric, Reward, Rewards, ask, close, is_async
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Part:
    """One reward of a sum.

    Attributes:
        name: In logs: `reward/NAME`, unweighted.
        reward: See protocol.py.
        weight: Finite; negative for a penalty.
    """

    name: str
    reward: Reward
    weight: float = 1.0


class Weighted:
    """The weighted sum of several rewards, itself a reward (asynchronous).

    Args:
        parts: One or more, of different names.

    Raises:
        CodealignError: For no part, two of one name, a weight that is no finite number or 0, or a part that
            cannot be called.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        if not parts:
            raise CodealignError("a sum of rewards needs at least one part")
        names = [part.name for part in parts]
        if len(set(names)) != len(names):
            raise CodealignError(f"parts of a reward share a name ({', '.join(names)}): give each a label")
        for part in parts:
            weight = part.weight
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise CodealignError(f"reward {part.name!r} has weight {weight!r}: give a finite number")
            if weight == 0:
                raise CodealignError(f"reward {part.name!r} has weight 0: leave it out")
            if not callable(part.reward):
                raise CodealignError(f"reward {part.name!r} cannot be called: {type(part.reward).__name__}")
        self.parts = tuple(parts)
        self.__name__ = "+".join(names)

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> Rewards:
        """One reward a completion; asynchronous parts run together, the others before them in turn.

        Raises:
            CodealignError: If a part does not give one finite number or None a completion.
        """
        hooks = {"log_extra": log_extra, "log_metric": log_metric}
        columns |= {name: hook for name, hook in hooks.items() if hook is not None}
        slow = [
            asyncio.ensure_future(ask(part.reward, prompts, completions, completion_ids, **columns))
            for part in self.parts
            if is_async(part.reward)
        ]
        try:
            await asyncio.sleep(0)  # the sandbox starts on its work before anything blocks the loop
            quick = [
                await ask(part.reward, prompts, completions, completion_ids, **columns)
                for part in self.parts
                if not is_async(part.reward)
            ]
            awaited = list(await asyncio.gather(*slow))
        finally:
            for task in slow:
                task.cancel()
        found = [awaited.pop(0) if is_async(part.reward) else quick.pop(0) for part in self.parts]
        self._report(found, log_extra, log_metric)
        weights = [part.weight for part in self.parts]
        return [_sum(row, weights) for row in zip(*found, strict=True)]

    def _report(
        self, found: Sequence[Rewards], log_extra: LogExtra | None, log_metric: LogMetric | None
    ) -> None:
        for part, values in zip(self.parts, found, strict=True):
            known = [value for value in values if value is not None]
            if log_metric is not None and known:
                log_metric(f"reward/{part.name}", sum(known) / len(known))
            if log_extra is not None:
                log_extra(f"reward_{part.name}", list(values))

    def close(self) -> None:
        """Frees what the parts hold."""
        for part in self.parts:
            close(part.reward)


def _sum(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    total = 0.0
    for value, weight in zip(values, weights, strict=True):
        if value is None:
            return None
        total += weight * value
    return total
