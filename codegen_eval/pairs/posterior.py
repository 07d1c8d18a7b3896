"""Posterior pairs: every pair with the probability that its label is right.

`codealign rank --ranker posterior` gives the probability P(i) that program i is right, given that some
program is. Programs of two consensus sets are never both right, so for a pair of them

    chosen_weight    P(chosen): chosen is right, and so rejected is wrong
    rejected_weight  1 - P(rejected): rejected is wrong
    label_smoothing  P(rejected) / (P(chosen) + P(rejected)): inverted, given that one of them is right

The smoothing is the flip probability that cDPO (`label_smoothing`) takes; the weights are those of a
desirable and an undesirable example in KTO. How far they are calibrated depends on the hyper-parameters: see
docs/b4.md. With the ranker `b4` P is its posterior over whole sets, which is too sure where tests are few.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.correctness import confidence, pair_of, representatives, unusable
from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.b4 import normalised
from codegen_eval.ranking.common import FloatArray, consensus_sets
from codegen_eval.ranking.rows import MatrixRow, task_rng


def right_probabilities(row: MatrixRow, ranked: RankedRow) -> FloatArray:
    """Probability (codes,) that each program is right; 0 for those without a score.

    Raises:
        CodealignError: The ranking's scores are no probabilities.
    """
    found = np.zeros(len(ranked.scores))
    scored = [i for i, score in enumerate(ranked.scores) if score is not None]
    scores = np.array([ranked.scores[i] for i in scored], dtype=np.float64)
    if ranked.kind == "log_probability":
        found[scored] = np.exp(np.minimum(scores, 0.0))
    elif ranked.kind == "log_posterior":
        sets = consensus_sets(row.passed[scored])
        found[scored] = normalised(scores[sets.first])[sets.set_of]
    else:
        raise CodealignError(
            f"posterior pairs need probabilities, and the ranker {ranked.ranker!r} gives none; rank with "
            "--ranker posterior (or b4)"
        )
    return found


def _candidates(
    row: MatrixRow, ranked: RankedRow, right: FloatArray, options: PairOptions, funnel: Counter[str]
) -> list[tuple[int, int, float]]:
    """(chosen, rejected, weight) by representative: any two sets, the more probable one chosen."""
    into, weight = representatives(row)
    scored = sorted({into[i] for i, score in enumerate(ranked.scores) if score is not None})
    found = []
    for c in scored:
        for r in scored:
            if right[c] <= right[r] or not row.passed[c].any():
                continue
            if normal_form(row.codes[c]) == normal_form(row.codes[r]):
                funnel["candidate_equal_code"] += 1
            elif confidence(ranked, c, r) < options.min_confidence:
                funnel["candidate_low_confidence"] += 1
            else:
                found.append((c, r, float(weight[c] * weight[r] * right[c])))
    return found


@BUILDERS.register("posterior")
def posterior_pairs(
    row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """Up to `pairs_per_problem` pairs, drawn by how often their programs were sampled and how probable the
    pair is; see the head of this module.

    Args:
        row: Programs, tests, results.
        ranked: A ranking of the same row by `posterior` or `b4`.
        options: `pairs_per_problem`, `min_confidence` and the seed count.
        funnel: Counts `problem_*` and `candidate_*`.
    """
    right = right_probabilities(row, ranked)
    reason = unusable(row, ranked)
    found = [] if reason else [c for c in _candidates(row, ranked, right, options, funnel) if c[2] > 0]
    rng = task_rng(options.seed, "posterior", row.task_id)
    picked = draw([weight for *_, weight in found], options.pairs_per_problem, rng)
    if not picked:
        funnel[f"problem_{reason or 'nothing_below'}"] += 1
        return []
    funnel["problem_with_pairs"] += 1
    return [
        pair_of(row, ranked, c, r, weights=(float(right[c]), float(1.0 - right[r])))
        for c, r, _ in (found[i] for i in picked)
    ]
