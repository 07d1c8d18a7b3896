"""`codealign reproduce NAME`: a paper's experiment, at a size that this machine can do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from codegen_eval.errors import CodealignError, unknown

STUDIES: dict[str, tuple[str, str]] = {
    "overoptimization": (
        "alignment.studies.overoptimization",
        "reward ensembles against overoptimisation by best-of-n, in miniature, with controls",
    ),
    "ppo-ensemble": (
        "alignment.studies.ppo_ensemble",
        "PPO against one reward model and conservative ensembles, with and without a KL penalty",
    ),
    "remax": (
        "alignment.studies.remax",
        "ReMax against REINFORCE and PPO on a task of minutes, and when its baseline lowers variance",
    ),
    "overoptimization-models": (
        "alignment.studies.overopt_models",
        "the same through reward models that are really trained: tiny transformers, slower",
    ),
    "mcts-dpo": (
        "alignment.studies.mcts_dpo",
        "step pairs from tree search against pairs of whole answers, at equal sampled tokens",
    ),
    "mrt": (
        "alignment.studies.mrt",
        "MRT: regret of thinking, trained by progress against by outcome, on an embedded task",
    ),
    "mrt-code": (
        "alignment.studies.mrt_code",
        "repair turns with sandbox feedback: the embedded model as it is and after a warm start",
    ),
    "b4": (
        "alignment.studies.b4",
        "B4's simulation: six rankers on 17 settings, and whether B4 is calibrated",
    ),
}


def usage() -> str:
    """The text of `codealign reproduce --help`."""
    width = max(map(len, STUDIES))
    rows = [f"  {name:<{width}}  {text}" for name, (_, text) in STUDIES.items()]
    return "\n".join(
        [
            "usage: codealign reproduce NAME [options]",
            "",
            "Repeats a paper's experiment and says how near it comes.",
            "",
            *rows,
            "",
            "codealign reproduce NAME --help lists a study's options.",
        ]
    )


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line.

    Raises:
        CodealignError: No name, or an unknown one.
    """
    arguments = list(argv)
    if arguments and arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    if not arguments or arguments[0].startswith("-"):
        raise CodealignError(f"name the study first; there are: {', '.join(STUDIES)}")
    if arguments[0] not in STUDIES:
        raise unknown("study", arguments[0], STUDIES)
    module = importlib.import_module(STUDIES[arguments[0]][0])
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
