"""Entry point: RAFT (Dong et al. 2023, arXiv 2304.06767), fine-tuning on the best of answers drawn before.

    accelerate launch -m alignment.raft --config recipes/tiny-coder/raft.yaml --dataset_name runs/scored

With `--top 100 --min_reward 1` on rewards of 1 and 0 it is rejection-sampling fine-tuning: all right answers
are kept. One run is one iteration; draw and score again with its model for the next. Data and options as for
`alignment.rrhf`, with `offpolicy.options.RAFTOptions`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alignment.offpolicy.options import RAFTOptions
from alignment.offpolicy.options import parse as read
from alignment.preference.arguments import Arguments
from alignment.preference.job import entry_point
from codegen_eval.runs import RunDir


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; see `offpolicy.options.parse`."""
    return read(argv, RAFTOptions)


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    arguments = parse(argv)
    from alignment.offpolicy.data import best_of
    from alignment.offpolicy.job import train_on
    from alignment.offpolicy.trainer import Imitation

    options = arguments.options
    return train_on(
        arguments,
        "raft",
        lambda candidates: best_of(candidates, options.top, options.min_reward),
        Imitation(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.raft`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
