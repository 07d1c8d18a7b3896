"""Random order: the baseline that every ranker has to beat."""

from __future__ import annotations

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("random")
def random_order(view: View) -> Ranking:
    """A uniformly random score for every program, from the problem's own generator."""
    return ranking(view.rng.random(view.passed.shape[0]), "none")
