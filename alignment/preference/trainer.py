"""TRL's DPOTrainer on our pairs: separate tokenisation, whole rows only, metrics to a run directory."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import DPOTrainer

from alignment.preference.data import encode_pairs
from codegen_eval.runs import RunDir

WHOLE = "complete"
"""File in a checkpoint folder that is written last: a folder without it was torn by a kill."""

LOG_RATIO_FLOOR = -15.0
"""Nats: rejected programs pushed this far below the reference go with models that forget how to write
code."""


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer that takes rows as `encode_pairs` makes them."""

    dropped = 0

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        # TRL tokenises prompt and completion jointly and cuts long rows; see preference/data.py for why we
        # do not.
        encoded, self.dropped = encode_pairs(dataset, processing_class, args.max_length)
        return encoded


class RunLog(TrainerCallback):  # type: ignore[misc]
    """Writes each log row to the run directory, marks whole checkpoints, warns in plain words."""

    def __init__(self, run: RunDir, beta: float) -> None:
        self.run = run
        self.beta = beta
        self.warned = False
        self.started = time.perf_counter()

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Called by the trainer with averaged metrics."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        self.run.log(**{**logs, "step": state.global_step})
        print(
            f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
            f"accuracy {float(logs.get('rewards/accuracies', 0)):.2f}  "
            f"margin {float(logs.get('rewards/margins', 0)):.2f}  {time.perf_counter() - self.started:.0f} s",
            file=sys.stderr,
        )
        rejected = float(logs.get("rewards/rejected", 0.0)) / self.beta
        if rejected < LOG_RATIO_FLOOR and not self.warned:
            self.warned = True
            print(
                f"warning: rejected programs are now {-rejected:.0f} nats less likely than under the "
                "reference; the model may be forgetting how to write programs. Lower the learning rate or "
                "the number of steps.",
                file=sys.stderr,
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when a checkpoint folder is written."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; None when there is none."""
    whole = [p.parent for p in folder.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda p: int(p.name.removeprefix("checkpoint-")), default=None)
