"""MaxPass: the program that passes most tests."""

from __future__ import annotations

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("maxpass")
def maxpass(view: View) -> Ranking:
    """Score of a program: its passed tests, each weighted."""
    return ranking(view.passed @ view.test_weights, "ordinal")
