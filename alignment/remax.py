"""Entry point: ReMax (Li et al. 2023, arXiv 2310.10505): the greedy answer as the baseline.

    accelerate launch -m alignment.remax --config recipes/tiny-coder/remax.yaml --output_dir runs/remax

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
    return job.parse(argv, "remax")


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model; see `onpolicy.job.run`."""
    return job.run(argv, "remax")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.remax`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
