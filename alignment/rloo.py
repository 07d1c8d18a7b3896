"""Entry point: RLOO (Ahmadian et al. 2024, arXiv 2402.14740), and GRPO by `--algorithm grpo`.

    accelerate launch -m alignment.rloo --config recipes/tiny-coder/rloo.yaml --output_dir runs/rloo

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
    return job.parse(argv, "rloo")


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model; see `onpolicy.job.run`."""
    return job.run(argv, "rloo")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.rloo`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
