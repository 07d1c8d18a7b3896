"""MBR-exec: the program whose row of results is most common among the programs.

This is the form that B4 (arXiv 2409.08692) compares with, the size of the consensus set. The original (Shi et
al. 2022) minimises the expected disagreement of outputs on test inputs instead.
"""

from __future__ import annotations

from codegen_eval.ranking.common import RANKERS, Ranking, View, consensus_sets, ranking, set_sizes


@RANKERS.register("mbr_exec")
def mbr_exec(view: View) -> Ranking:
    """Score of a program: the (weighted) size of its consensus set."""
    sets = consensus_sets(view.passed)
    sizes = set_sizes(sets, view.code_weights)
    return ranking(sizes[sets.set_of], "ordinal")
