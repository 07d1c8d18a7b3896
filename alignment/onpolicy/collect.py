"""One step's answers with their rewards: while the next ones are drawn, the last ones are scored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from alignment.health.monitor import phase
from alignment.onpolicy.prompts import PromptRow
from alignment.onpolicy.reward_calls import RewardCalls, Scored
from alignment.onpolicy.rollout import Answer, Ask, Decoding, Sampler


@dataclass
class Rollout:
    """Answers and rewards of one process; samples of one prompt side by side.

    Attributes:
        prompts: One a prompt.
        samples: `num_generations` a prompt.
        rewards: One a sample, None where it is unknown.
        greedy: One a prompt, or none at all.
        greedy_rewards: Likewise.
        scored: What the reward calls said of samples.
        greedy_scored: Of greedy answers.
        drawing: Seconds of generation.
        waiting: Seconds of waiting for rewards after it.
    """

    prompts: list[PromptRow]
    samples: list[Answer]
    rewards: list[float | None]
    greedy: list[Answer]
    greedy_rewards: list[float | None]
    scored: list[Scored]
    greedy_scored: list[Scored]
    drawing: float = 0.0
    waiting: float = 0.0


def collect(
    sampler: Sampler,
    calls: RewardCalls,
    asked: Sequence[tuple[str, PromptRow]],
    decoding: Decoding,
    *,
    num_generations: int,
    greedy: bool,
    at_once: int,
    trainer_state: Any = None,
) -> Rollout:
    """Draws and scores.

    Args:
        sampler: With the policy's weights.
        calls: The reward.
        asked: Key (step and slot) and prompt.
        decoding: How answers are drawn.
        num_generations: Samples of a prompt.
        greedy: Whether to draw and score greedy answers, too.
        at_once: Answers in a batch of generation; also of one reward call.
        trainer_state: For rewards that change with training, as TRL passes it.

    Raises:
        CodealignError: If a reward breaks its protocol.
    """
    prompts = [row for _, row in asked]
    out = Rollout(prompts, [], [], [], [], [], [])
    pending: list[tuple[Future[Scored], Future[Scored] | None]] = []
    each = max(1, at_once // (num_generations + greedy))
    began = time.perf_counter()
    for start in range(0, len(asked), each):
        part = asked[start : start + each]
        asks = [Ask(key, row.ids, num_generations, greedy) for key, row in part]
        with phase("rollout"):
            answers = sampler.draw(asks, decoding)
        samples = [answer for of_prompt in answers for answer in of_prompt[:num_generations]]
        modes = [of_prompt[-1] for of_prompt in answers] if greedy else []
        rows = [row for _, row in part]
        repeated = [row for row in rows for _ in range(num_generations)]
        pending.append(
            (
                _submit(calls, repeated, samples, trainer_state),
                _submit(calls, rows, modes, trainer_state) if greedy else None,
            )
        )
        out.samples += samples
        out.greedy += modes
    out.drawing = time.perf_counter() - began
    for sampled, mode in pending:
        with phase("reward"):
            out.scored.append(sampled.result())
            if mode is not None:
                out.greedy_scored.append(mode.result())
    out.waiting = time.perf_counter() - began - out.drawing
    out.rewards = [reward for scored in out.scored for reward in scored.rewards]
    out.greedy_rewards = [reward for scored in out.greedy_scored for reward in scored.rewards]
    return out


def _submit(
    calls: RewardCalls, rows: Sequence[PromptRow], answers: Sequence[Answer], trainer_state: Any
) -> Future[Scored]:
    columns: dict[str, Any] = {name: [row.columns[name] for row in rows] for name in rows[0].columns}
    if trainer_state is not None:
        columns["trainer_state"] = trainer_state
    texts = [answer.text for answer in answers]
    completions: list[Any] = [
        text if isinstance(row.text, str) else [{"role": "assistant", "content": text}]
        for row, text in zip(rows, texts, strict=True)
    ]
    return calls.submit([row.text for row in rows], completions, [answer.ids for answer in answers], columns)
