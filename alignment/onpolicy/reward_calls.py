"""Calls of a reward beside the generation of the next answers: in a thread, tried again, counted.

A reward that raises leaves its rows without a reward (None) after `retries` further attempts; that is never
reward 0. What breaks the protocol (another length, no number, NaN) is an error at once: no further attempt
would mend it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from alignment.rewards.protocol import Reward, Rewards, ask, is_async, name_of
from codegen_eval.errors import CodealignError


@dataclass
class Scored:
    """What a call came to.

    Attributes:
        rewards: One a completion.
        raised: Attempts that raised.
        failed: Completions that have no reward because every attempt raised.
        error: The last error's text; empty where there was none.
        metrics: What the reward logged, by name.
        extra: Columns that it logged.
    """

    rewards: Rewards
    raised: int = 0
    failed: int = 0
    error: str = ""
    metrics: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    extra: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def check_reward(reward: Any) -> None:
    """Refuses, before anything is drawn, what cannot be called as the protocol says.

    Raises:
        CodealignError: For no callable, or one that would not take a data set's columns.
    """
    if not callable(reward):
        raise CodealignError(f"the reward is a {type(reward).__name__}, which cannot be called")
    try:
        parameters = inspect.signature(reward).parameters.values()
    except (TypeError, ValueError):
        return
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise CodealignError(
            f"reward {name_of(reward)!r} must take **columns: it is called with prompts, completions, "
            "completion_ids, the data set's other columns, trainer_state, log_extra and log_metric"
        )


class RewardCalls:
    """Calls one reward from a thread of its own; asynchronous calls run together, others one by one.

    Args:
        reward: See rewards/protocol.py.
        retries: Further attempts of a call that raised.
    """

    def __init__(self, reward: Reward, retries: int = 2) -> None:
        check_reward(reward)
        self.reward, self.retries = reward, retries
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: ThreadPoolExecutor | None = None

    def submit(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        columns: Mapping[str, list[Any]],
    ) -> Future[Scored]:
        """Starts a call and returns at once."""
        call = self._call(list(prompts), list(completions), [list(ids) for ids in completion_ids], columns)
        return asyncio.run_coroutine_threadsafe(call, self._started())

    def close(self) -> None:
        """Ends the thread; calls under way are cancelled."""
        if self._loop is None:
            return
        loop, self._loop = self._loop, None

        def stop() -> None:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.call_soon(loop.stop)

        loop.call_soon_threadsafe(stop)
        self._thread.join(timeout=10)
        if self._line is not None:
            self._line.shutdown(wait=False, cancel_futures=True)
            self._line = None

    async def _call(
        self, prompts: list[Any], completions: list[Any], ids: list[list[int]], columns: Mapping[str, Any]
    ) -> Scored:
        raised, error = 0, ""
        for _ in range(self.retries + 1):
            scored = Scored([])

            def log_metric(name: str, value: float, scored: Scored = scored) -> None:
                scored.metrics[name].append(float(value))

            def log_extra(name: str, values: list[Any], scored: Scored = scored) -> None:
                scored.extra[name].extend(values)

            hooks = {"log_metric": log_metric, "log_extra": log_extra}
            try:
                scored.rewards = await self._ask(prompts, completions, ids, {**columns, **hooks})
            except CodealignError:
                raise
            except Exception as failure:  # a reward may raise anything; the run goes on without these rows
                raised += 1
                error = f"{type(failure).__name__}: {failure}"[:300]
                continue
            scored.raised, scored.error = raised, error
            return scored
        return Scored([None] * len(completions), raised, len(completions), error)

    async def _ask(
        self, prompts: list[Any], completions: list[Any], ids: list[list[int]], columns: dict[str, Any]
    ) -> Rewards:
        if is_async(self.reward):
            return await ask(self.reward, prompts, completions, ids, **columns)
        # A function may block: it runs beside the loop, one call at a time, as TRL calls it.
        self._line = self._line or ThreadPoolExecutor(1, thread_name_prefix="reward")
        return await asyncio.get_running_loop().run_in_executor(
            self._line, lambda: asyncio.run(ask(self.reward, prompts, completions, ids, **columns))
        )

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), daemon=True, name="rewards")
            self._thread.start()
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        with contextlib.suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class FailureWindow:
    """Answers without a reward over the last steps; says when they are too many.

    The limit is a share of the window's answers, counted from the first step: a window that is not full yet
    is not judged by a share of the few answers that it has.

    Args:
        steps: Length of the window.
        share: Largest share of answers without a reward.
    """

    def __init__(self, steps: int, share: float) -> None:
        self.share = share
        self.recent: deque[tuple[int, int]] = deque(maxlen=steps)

    def add(self, missing: int, answers: int) -> bool:
        """Notes a step; True where the limit is passed."""
        self.recent.append((missing, answers))
        allowed = self.share * answers * (self.recent.maxlen or 1)
        return sum(m for m, _ in self.recent) > allowed

    def state_dict(self) -> list[list[int]]:
        """What a checkpoint keeps."""
        return [list(pair) for pair in self.recent]

    def load_state_dict(self, state: Sequence[Sequence[int]]) -> None:
        """Takes it back."""
        self.recent.clear()
        self.recent.extend((int(m), int(n)) for m, n in state)
