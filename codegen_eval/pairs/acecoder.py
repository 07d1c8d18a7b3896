"""AceCoder's pairs: pass rates far apart, the chosen one high, the rejected one not zero (arXiv 2502.01718).

    s_i > s_j + 0.4,   s_i > 0.8,   s_j > 0

decided in whole numbers. A program that passes nothing is no rejected example: often it failed by an accident
of its form. Problems with fewer than five tests give no pair, as in the paper.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from codegen_eval.pairs.correctness import confidence, pair_of
from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, RankedRow
from codegen_eval.ranking.common import as_passed
from codegen_eval.ranking.rows import MatrixRow, task_rng

GAP = Fraction(2, 5)
TOP = Fraction(4, 5)
MIN_TESTS = 5


def acecoder_choice(
    passed: ArrayLike, test_counts: ArrayLike | None = None, gap: Fraction = GAP, top: Fraction = TOP
) -> list[tuple[int, int]]:
    """All (chosen, rejected) that the rule allows, in order of the indices.

    Args:
        passed: (codes, tests) of 0 and 1.
        test_counts: (tests,) whole multiplicities, ones when absent.
        gap: How much higher the chosen one's pass rate is.
        top: What the chosen one's pass rate is above.
    """
    matrix = as_passed(passed)
    counts = np.ones(matrix.shape[1], np.int64) if test_counts is None else np.asarray(test_counts, np.int64)
    passes, total = matrix.astype(np.int64) @ counts, int(counts.sum())
    high = passes * top.denominator > top.numerator * total
    apart = (passes[:, None] - passes[None, :]) * gap.denominator > gap.numerator * total
    allowed = apart & high[:, None] & (passes > 0)[None, :]
    return [(int(i), int(j)) for i, j in np.argwhere(allowed)]


@BUILDERS.register("acecoder")
def acecoder_pairs(
    row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """Up to `pairs_per_problem` of the pairs that the rule allows, drawn by how often programs were sampled.

    Args:
        row: Programs, tests, results.
        ranked: A ranking of the same row: gives scores and confidence, not the choice.
        options: `pairs_per_problem`, `min_confidence` and the seed count.
        funnel: Counts `problem_*` and `candidate_*`.
    """
    if row.test_counts.sum() < MIN_TESTS:
        funnel["problem_few_tests"] += 1
        return []
    found = []
    for c, r in acecoder_choice(row.passed, row.test_counts):
        if normal_form(row.codes[c]) == normal_form(row.codes[r]):
            funnel["candidate_equal_code"] += 1
        elif confidence(ranked, c, r) < options.min_confidence:
            funnel["candidate_low_confidence"] += 1
        else:
            found.append((c, r))
    weights = [float(row.code_counts[c] * row.code_counts[r]) for c, r in found]
    picked = draw(weights, options.pairs_per_problem, task_rng(options.seed, "acecoder", row.task_id))
    funnel["problem_with_pairs" if picked else "problem_no_gap"] += 1
    return [pair_of(row, ranked, *found[i]) for i in picked]
