"""Entry point: PPO (Schulman et al. 2017, arXiv 1707.06347) for language models, and its family.

    accelerate launch -m alignment.ppo --config recipes/tiny-coder/ppo.yaml --output_dir runs/ppo

Options are those of `onpolicy.options`, TRL's ScriptArguments for the prompts and ModelConfig for the model;
`--algorithm` takes any of docs/onpolicy.md. `output_dir` is a run directory: metrics.jsonl, checkpoints,
`model/` at the end; `--overwrite` starts it anew. Killed anywhere, the same command goes on from the last
whole checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alignment.onpolicy import job
from alignment.preference.arguments import Arguments
from alignment.preference.job import entry_point
from codegen_eval.runs import RunDir


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; see `onpolicy.job.parse`."""
    return job.parse(argv, "ppo")


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model; see `onpolicy.job.run`."""
    return job.run(argv, "ppo")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.ppo`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
