"""PLUM's rule: a program is right if it passes every test (Zhang et al. 2024, arXiv 2406.06887)."""

from __future__ import annotations

import numpy as np

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("plum")
def plum(view: View) -> Ranking:
    """Score of a program: 1 if it passes all tests and there are any, else 0."""
    has_tests = view.passed.shape[1] > 0
    return ranking((view.passed.all(axis=1) & has_tests).astype(np.float64), "ordinal")
