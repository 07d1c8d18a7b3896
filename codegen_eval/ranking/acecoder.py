"""AceCoder's order: the share of passed tests (Zeng et al. 2025, arXiv 2502.01718).

The share is compared between programs of one problem; AceCoder's pairs ask for fixed gaps as well
(`codegen_eval/pairs/acecoder.py`).
"""

from __future__ import annotations

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("acecoder")
def acecoder(view: View) -> Ranking:
    """Score of a program: its share of passed tests, each weighted; 0 where there are no tests."""
    return ranking(view.passed @ view.test_weights / max(float(view.test_weights.sum()), 1.0), "ordinal")
