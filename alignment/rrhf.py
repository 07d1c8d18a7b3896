"""Entry point: RRHF (Yuan et al. 2023, arXiv 2304.05302), ranking and imitating answers drawn before.

    accelerate launch -m alignment.rrhf --config recipes/tiny-coder/rrhf.yaml --dataset_name runs/scored

`codealign score` writes the data: prompts with several answers and their rewards. Options are TRL's (the
fields of ScriptArguments, SFTConfig and ModelConfig) and those of `offpolicy.options.RRHFOptions`.
`output_dir` is a run directory, as for `alignment.dpo`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from alignment.offpolicy.options import RRHFOptions
from alignment.offpolicy.options import parse as read
from alignment.preference.arguments import Arguments
from alignment.preference.job import entry_point
from codegen_eval.runs import RunDir


def parse(argv: Sequence[str]) -> Arguments:
    """Reads recipe and flags; see `offpolicy.options.parse`."""
    return read(argv, RRHFOptions)


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used.
    """
    arguments = parse(argv)
    from alignment.offpolicy.data import ranked_groups
    from alignment.offpolicy.job import train_on
    from alignment.offpolicy.trainer import Ranking

    options = arguments.options
    return train_on(
        arguments,
        "rrhf",
        lambda candidates: ranked_groups(candidates, options.candidates, options.min_reward),
        Ranking(options.rank_weight, options.length_penalty, options.imitation),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.rrhf`."""
    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
