"""CodeDPO's correctness pair: the best-scored program against the worst-scored one (arXiv 2410.05605).

Takes any ranking; CodeDPO's own is the ranker `codedpo`. Whether the paper makes more than one pair a problem
and which gap it asks for is not known to us: one pair, `min_gap` 0 by default. Never a pair with equal scores
or equal programs; the chosen one loads and passes a test. Programs left out of the ranking take no part.
"""

from __future__ import annotations

from collections import Counter

from codegen_eval.pairs.correctness import confidence, pair_of, unusable
from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.rows import MatrixRow, task_rng


def _reason(row: MatrixRow, ranked: RankedRow, options: PairOptions, worst: list[int]) -> str | None:
    """Why the problem gives no pair; None if the best and the worst are far enough apart."""
    if reason := unusable(row, ranked):
        return reason
    if not worst:
        return "nothing_below"
    high, low = ranked.scores[ranked.best[0]] or 0.0, ranked.scores[worst[0]] or 0.0
    if high - low < options.min_gap * abs(high):
        return "gap_too_small"
    if confidence(ranked, ranked.best[0], worst[0]) < options.min_confidence:
        return "low_confidence"
    return None


@BUILDERS.register("codedpo")
def codedpo_pairs(
    row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """At most one pair of a problem; ties at either end are drawn by how often programs were sampled.

    Args:
        row: Programs, tests, results.
        ranked: The ranking of the same row.
        options: `min_gap`, `min_confidence` and the seed count.
        funnel: Counts `problem_*`.
    """
    worst = [
        i for i, level in enumerate(ranked.level) if level is not None and 0 < level == ranked.levels - 1
    ]
    reason = _reason(row, ranked, options, worst)
    chosen = [i for i in ranked.best if row.passed[i].any() and not row.unloadable[i]]
    found = [
        (c, r)
        for c in chosen
        for r in worst
        if not reason and normal_form(row.codes[c]) != normal_form(row.codes[r])
    ]
    if not found:
        funnel[f"problem_{reason or 'equal_code'}"] += 1
        return []
    funnel["problem_with_pairs"] += 1
    weights = [float(row.code_counts[c] * row.code_counts[r]) for c, r in found]
    picked = draw(weights, 1, task_rng(options.seed, "codedpo", row.task_id))
    return [pair_of(row, ranked, *found[picked[0]], ties=len(found))]
