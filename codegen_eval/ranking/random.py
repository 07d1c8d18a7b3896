"""Random order: the baseline that every ranker has to beat."""

from __future__ import annotations

import numpy as np

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("random")
def random_order(view: View) -> Ranking:
    """A uniformly random score for every program, from the problem's own generator."""
    rng = np.random.default_rng(0) if view.rng is None else view.rng
    return ranking(rng.random(view.passed.shape[0]), "none")
