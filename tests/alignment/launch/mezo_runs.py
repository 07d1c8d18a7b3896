"""Runs of MeZO for tests of ZeRO-3, as every process of a launch does them; a rank can be struck in one."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import launch_matrix

ADAPTERS = ("--use_peft", "true", "--lora_r", "2", "--lora_target_modules", "q_proj", "v_proj")
LORA = (*ADAPTERS, "--eps", "0.01")
REWARD = ("--reward", "benchmarks.launch_matrix:odd_letters", "--max_completion_length", "6")
RUNS: dict[str, tuple[str, ...]] = {
    "plain": ("--weight_decay", "0.1"),
    "sparse": ("--sparsity", "0.5", "--mask_every", "2", "--directions", "2"),
    "ranking": ("--estimator", "ranking", "--directions", "3"),
    "live": ("--precompute_ref_log_probs", "false", "--shared_prompt", "false", "--loss_weights", "1.0"),
    "lora": LORA,
    "lora-bfloat16": (*LORA, "--dtype", "bfloat16"),
    "lora-live": (*LORA, "--precompute_ref_log_probs", "false"),
    "rewind": ("--on_nan", "rewind"),
    "reward": REWARD,
    "reward-lora": (*REWARD, *ADAPTERS, "--eps", "1"),
}
"""Options on top of the shipped recipe; with `reward` in the name on top of the recipe of pass rates."""


def arguments(run: str, folder: Path, out: Path, processes: int) -> list[str]:
    """The command line of a run, with the same global batch on any number of processes."""
    reward = run.startswith("reward")
    recipe, data = ("mezo-pass-rate", "prompts.jsonl") if reward else ("mezo", "pairs.jsonl")
    method = launch_matrix.Method("alignment.mezo", f"tiny-coder/{recipe}.yaml", data, RUNS[run])
    words = launch_matrix.arguments_of(method, folder, out, processes)
    # A snapshot in the middle, and several batches a process.
    own = {"per_device_train_batch_size": 4 // processes, "gradient_accumulation_steps": 2, "save_steps": 2}
    return [*words, *(word for name, value in own.items() for word in (f"--{name}", str(value)))]


class Watched:
    """Notes how many weights this process holds, while models run and between their passes."""

    def __init__(self) -> None:
        self.most = self.between = self.share = self.all = 0

    def install(self) -> None:
        import torch

        from alignment.zeroth_order.trainer import ZerothOrder

        watched, plain = self, ZerothOrder.__init__

        def made(trainer: Any, model: torch.nn.Module, *rest: Any) -> None:
            plain(trainer, model, *rest)
            parameters = list(model.parameters())
            watched.all = sum(p.ds_numel for p in parameters)  # type: ignore[attr-defined]
            watched.share = sum(p.ds_tensor.numel() for p in parameters)  # type: ignore[attr-defined]

            def look(*_: Any) -> None:
                watched.most = max(watched.most, sum(p.numel() for p in parameters))

            for module in model.modules():
                if not list(module.children()):
                    module.register_forward_hook(look)
            shift = trainer.mover.round_trip

            def moved(*words: Any) -> None:
                watched.between = max(watched.between, sum(p.numel() for p in parameters))
                shift(*words)

            trainer.mover.round_trip = moved

        ZerothOrder.__init__ = made  # type: ignore[method-assign]


def strike(kind: str, rank: int, evaluation: int) -> None:
    """Lets one evaluation of a rank fail: `nan` spoils its value, `kill` ends the process without a word."""
    from alignment.zeroth_order.pair_loss import PairLoss

    plain, left = PairLoss.__call__, [evaluation]

    def struck(self: PairLoss, rows: Sequence[int]) -> Any:
        left[0] -= 1
        if left[0] or int(os.environ["RANK"]) != rank:
            return plain(self, rows)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return [value * float("nan") for value in plain(self, rows)]  # type: ignore[operator]

    PairLoss.__call__ = struck  # type: ignore[method-assign]


def main(folder: Path, runs: Sequence[str]) -> None:
    """Does the runs in turn, in folders of their names."""
    from alignment import mezo

    if "FAULT" in os.environ:
        kind, rank, evaluation = os.environ["FAULT"].split(":")
        strike(kind, int(rank), int(evaluation))
    watched = Watched()
    watched.install()
    for run in runs:
        watched.most = watched.between = 0
        mezo.run(arguments(run, folder, folder / run, int(os.environ["WORLD_SIZE"])))
        held = {name: getattr(watched, name) for name in ("most", "between", "share", "all")}
        (folder / f"{run}-{os.environ['RANK']}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
