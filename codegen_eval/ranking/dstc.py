"""DSTC's order: the program that passes most tests, the test that fewest programs pass (arXiv 2411.13611).

This is the order behind DSTC's choice; the pair itself, a program and a test on either side, is made by
`codegen_eval/pairs/dstc.py`.
"""

from __future__ import annotations

from codegen_eval.ranking.common import RANKERS, Ranking, View, ranking


@RANKERS.register("dstc")
def dstc(view: View) -> Ranking:
    """Score of a program: its passed tests; of a test: the programs that fail it (the hardest is highest)."""
    failing = view.code_weights @ ~view.passed
    return ranking(view.passed @ view.test_weights, "ordinal", test_scores=failing)
