"""CodeT: the consensus set with many programs and many passed tests (Chen et al. 2022, arXiv 2207.10397).

Score of a set: passed tests times the square root of its size. With `weights="counts"` both are counted with
their frequency, as the authors' code does; with `"ones"` every distinct program and test counts once, as in
the comparison of B4. Departs from the authors' code in one point: programs that pass nothing stay, with score
0, where it leaves them out.
"""

from __future__ import annotations

import numpy as np

from codegen_eval.ranking.common import RANKERS, Ranking, View, consensus_sets, ranking, set_sizes


@RANKERS.register("codet")
def codet(view: View) -> Ranking:
    """Score of a program: its consensus set's (weighted) passed tests times sqrt of its (weighted) size."""
    sets = consensus_sets(view.passed)
    sizes = set_sizes(sets, view.code_weights)
    scores = (sets.rows @ view.test_weights) * np.sqrt(sizes)
    return ranking(scores[sets.set_of], "ordinal")
