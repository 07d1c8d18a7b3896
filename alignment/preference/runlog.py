"""Metrics to a run directory, whole checkpoints marked, warnings in plain words."""

from __future__ import annotations

import sys
import time
from typing import Any

from transformers import TrainerCallback

from alignment.health.attach import seal_checkpoint
from codegen_eval.runs import RunDir

LOG_RATIO_FLOOR = -15.0
"""Nats: rejected programs pushed this far below the reference go with models that forget how to write
code."""

CHOSEN_FALL = -10.0
"""Nats: the loss sees differences only, so chosen programs can become e^10 times less likely while the margin
grows."""


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Writes each log row to the run directory, marks whole checkpoints, warns in plain words.

    Args:
        run: The run directory.
        beta: What the rewards were multiplied with where log ratios are not reported themselves; None where
            rewards are no log ratios.
        hashes: Whether a checkpoint's manifest has hashes beside sizes.
    """

    def __init__(self, run: RunDir, beta: float | None, *, hashes: bool = True) -> None:
        self.run = run
        self.hashes = hashes
        self.beta = beta
        self.warned: set[str] = set()
        self.first: float | None = None
        self.started = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Called by the trainer with averaged metrics."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        self.run.log(**{**logs, "step": state.global_step})
        told = {"accuracy": "rewards/accuracies", "margin": "rewards/margins", "kl": "kl"}
        figures = [f"{word} {float(logs[key]):.2f}" for word, key in told.items() if key in logs]
        print(
            f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
            f"{'  '.join([*figures, f'{time.perf_counter() - self.started:.0f} s'])}",
            file=sys.stderr,
        )
        rejected = self._moved(logs, "rejected")
        if rejected is not None and rejected < LOG_RATIO_FLOOR:
            self._warn(
                "rejected",
                f"rejected programs are now {-rejected:.0f} nats less likely than under the reference; the "
                "model may be forgetting how to write programs. Lower the learning rate or the number of "
                "steps.",
            )
        chosen = self._moved(logs, "chosen")
        against = "under the reference"
        if chosen is None and "logps/chosen" in logs:
            self.first = float(logs["logps/chosen"]) if self.first is None else self.first
            chosen, against = float(logs["logps/chosen"]) - self.first, "at the start"
        if chosen is not None and chosen < CHOSEN_FALL:
            self._warn(
                "chosen",
                f"chosen programs are now {-chosen:.0f} nats less likely than {against}: the margin grows "
                "because rejected ones fall faster, not because chosen ones become likelier. Lower the "
                "learning rate, or take a loss that holds them up (rpo, dpop).",
            )

    def _moved(self, logs: dict[str, float], side: str) -> float | None:
        """The side's mean log ratio to the reference in nats; None where it is not known."""
        if f"log_ratios/{side}" in logs:
            return float(logs[f"log_ratios/{side}"])
        if self.beta is None or f"rewards/{side}" not in logs:
            return None
        return float(logs[f"rewards/{side}"]) / self.beta

    def _warn(self, what: str, text: str) -> None:
        if what not in self.warned:
            self.warned.add(what)
            print(f"warning: {text}", file=sys.stderr)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when a checkpoint folder is written."""
        seal_checkpoint(args, state, hashes=self.hashes)
