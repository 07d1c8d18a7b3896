"""What `codealign reproduce NAME` runs: one module a study, with `main(argv) -> int`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from codegen_eval.errors import unknown

STUDIES: dict[str, tuple[str, str]] = {
    "overoptimization": (
        "alignment.studies.overoptimization",
        "reward ensembles against overoptimisation (arXiv 2310.02743), in miniature",
    ),
}


def main(argv: Sequence[str]) -> int:
    """`codealign reproduce NAME [options]`; an unknown name is a CodealignError with the nearest one."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: codealign reproduce STUDY [options]\n")
        for name, (_, text) in STUDIES.items():
            print(f"  {name:<18} {text}")
        return 0
    if argv[0] not in STUDIES:
        raise unknown("study", argv[0], STUDIES)
    return int(importlib.import_module(STUDIES[argv[0]][0]).main(list(argv[1:])))
