"""Several test suites as an ensemble (`suites` in recipes): a program is worth what they say together.

With `wco` a program must do well in every suite, with `uwo` disagreement between suites costs; each suite is
scored by the same table, so they share a scale. Suites of different make (shown examples, a benchmark's own
tests, tests that a model wrote) err in different ways, which is what an ensemble needs.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from alignment.rewards.aggregation import Objective
from alignment.rewards.code import CodeReward
from alignment.rewards.ensemble import EnsembleReward
from alignment.rewards.protocol import LogExtra, LogMetric, Rewards
from alignment.rewards.registry import REWARDS
from codegen_eval.errors import CodealignError, unknown

_SCORES = "suite_scores"


@REWARDS.register("suites")
class SuitesReward:
    """Scores each completion by several pools of tests and combines the scores.

    Args:
        suites: Two or more pools (see tasks.py).
        objective: `mean`, `wco` or `uwo`.
        lam: UWO's lambda, in one over the table's unit.
        ddof: See aggregation.py.
        execution: Options of `CodeReward` but `tests`, as {"benchmark": "minipy", "preset": "pass_rate"}.

    Raises:
        CodealignError: For fewer than two suites, one given twice, or what `CodeReward` refuses.
    """

    def __init__(
        self,
        *,
        suites: Sequence[str],
        objective: Objective = "wco",
        lam: float = 0.5,
        ddof: int = 0,
        **execution: Any,
    ) -> None:
        if isinstance(suites, str) or len(suites) < 2:
            raise CodealignError(f"suites: {suites!r}: an ensemble needs two or more pools of tests")
        if len(set(suites)) != len(suites):
            raise CodealignError(f"suites: {', '.join(suites)}: a pool is given twice")
        known = [name for name in inspect.signature(CodeReward).parameters if name != "tests"]
        for name in execution:
            if name not in known:
                raise unknown(
                    "option of reward 'suites'", name, [*known, "suites", "objective", "lam", "ddof"]
                )
        first = CodeReward(tests=suites[0], **execution)
        shared = {**execution, "pool": first.pool}
        self._suites = {suites[0]: first, **{name: CodeReward(tests=name, **shared) for name in suites[1:]}}
        for name, suite in self._suites.items():
            suite.__name__ = f"execution/{name.replace(':', '_')}"
        self._ensemble = EnsembleReward(
            {name: _column(name) for name in suites},
            objective,
            lam=lam,
            ddof=ddof,
            uncalibrated=True,
            missing="none",
        )
        self.__name__ = f"suites_{objective}"

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> Rewards:
        """One reward a completion; None where a suite could not be run.

        Raises:
            CodealignError: As `CodeReward`.
        """
        tasks = [
            asyncio.ensure_future(
                suite(prompts, completions, completion_ids, log_extra, log_metric, **columns)
            )
            for suite in self._suites.values()
        ]
        try:
            found = dict(zip(self._suites, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
        return self._ensemble(prompts, completions, log_extra, log_metric, **{_SCORES: found})

    def close(self) -> None:
        """End the sandbox's workers."""
        for suite in self._suites.values():
            suite.close()


def _column(name: str) -> Callable[..., Rewards]:
    """A member that reads what its suite has said already."""

    def member(**kwargs: Any) -> Rewards:
        scores: Rewards = kwargs[_SCORES][name]
        return scores

    return member
