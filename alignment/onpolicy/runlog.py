"""Figures and answers of a run to its directory, and a line a step to people."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from transformers import TrainerCallback

from alignment.health.loops import drop_rows_after
from codegen_eval.runs import RunDir

METRICS, COMPLETIONS = "metrics.jsonl", "completions.jsonl"

_TOLD = {
    "reward": "reward/sampled",
    "greedy": "reward/greedy",
    "kl": "objective/kl",
    "entropy": "policy/entropy_avg",
    "length": "completions/mean_length",
}


class StepLog(TrainerCallback):  # type: ignore[misc]
    """Writes `metrics.jsonl` and `completions.jsonl`, and says how it goes.

    Args:
        run: The run directory.
        completions_steps: Answers are written every so many steps; 0 for never.
    """

    def __init__(self, run: RunDir, completions_steps: int = 0) -> None:
        self.run, self.completions_steps = run, completions_steps
        self.started = time.perf_counter()

    def go_on_from(self, step: int) -> None:
        """Takes out rows of steps after a checkpoint: they are made again."""
        for name in (METRICS, COMPLETIONS):
            drop_rows_after(self.run.path / name, step)

    def on_step_end(self, args: Any, state: Any, control: Any, rollout: Any = None, **kwargs: Any) -> None:
        """Called after each step with this process's rollout."""
        every = self.completions_steps
        if not every or rollout is None or not state.is_world_process_zero or state.global_step % every:
            return
        n = len(rollout.samples) // len(rollout.prompts)
        with (self.run.path / COMPLETIONS).open("a", encoding="utf-8") as file:
            for i, (answer, reward) in enumerate(zip(rollout.samples, rollout.rewards, strict=True)):
                row = {
                    "step": state.global_step,
                    "prompt": rollout.prompts[i // n].text,
                    "completion": answer.text,
                    "reward": reward,
                    "tokens": len(answer.ids),
                    "ended": answer.ended,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Called with the figures of the steps since the last call."""
        if not state.is_world_process_zero or not logs:
            return
        self.run.log(step=state.global_step, **logs)
        told = [f"{word} {logs[key]:.3f}" for word, key in _TOLD.items() if key in logs]
        seconds = time.perf_counter() - self.started
        print(
            f"step {state.global_step}/{state.max_steps}  {'  '.join(told)}  {seconds:.0f} s", file=sys.stderr
        )
