"""Correctness pairs from any ranking: chosen from the best-scored programs, rejected from below.

The rejected program has a lower score and passes fewer tests. Both are drawn by how often they were sampled,
with a generator of the problem alone, so that neither workers nor order matter.

Confidence, always in [0.5, 1]:
- B4's scores are log posteriors of the programs' consensus sets: P(chosen's set) / (P(chosen's) +
P(rejected's)).
- Scores of `posterior` are log probabilities of the programs: likewise.
- Scores that only order: 0.5 + 0.5 * (levels between them) / (levels of the ranking - 1).
- Scores without meaning (random): 0.5.
- A rejected program that does not compile or was put aside: 1; a chosen one without score: 0.5.
- A rejected program that left adaptive execution: 1 - `least`, the bound of the rule by which it left.
- A chosen program that this ranking puts below the rejected one (other builders choose): 0.5.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.special import expit

from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.hygiene import normal_form
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, PairKind, RankedRow
from codegen_eval.ranking.common import FloatArray
from codegen_eval.ranking.rows import MatrixRow, task_rng


def representatives(row: MatrixRow) -> tuple[list[int], FloatArray]:
    """Programs that are equal after normalisation and have equal results, folded.

    Returns:
        For each program the first one that it is folded into, and the summed multiplicities at those.
    """
    first: dict[tuple[str, bytes], int] = {}
    into = [
        first.setdefault((normal_form(code), row.passed[i].tobytes()), i) for i, code in enumerate(row.codes)
    ]
    weights = np.bincount(into, weights=row.code_counts, minlength=len(row.codes))
    return into, weights.astype(np.float64)


def confidence(ranked: RankedRow, chosen: int, rejected: int) -> float:
    """How sure the order of two programs is, in [0.5, 1]; see the head of this module."""
    high, low = ranked.scores[chosen], ranked.scores[rejected]
    if high is None:
        return 0.5
    if low is None:
        return ranked.left_confidence if rejected in ranked.left_race else 1.0
    if ranked.kind in ("log_posterior", "log_probability"):
        return float(expit(max(high - low, 0.0)))
    if ranked.kind == "none":
        return 0.5
    distance = (ranked.level[rejected] or 0) - (ranked.level[chosen] or 0)
    return 0.5 + 0.5 * max(distance, 0) / max(ranked.levels - 1, 1)


def pair_of(
    row: MatrixRow,
    ranked: RankedRow,
    chosen: int,
    rejected: int,
    *,
    kind: PairKind = "correctness",
    tests: tuple[int, int] | None = None,
    weights: tuple[float, float] | None = None,
    ties: int | None = None,
) -> Pair:
    """A pair with its confidence, margin and scores; the other values as in `Pair`."""
    passes, fewer, tests_met = row.common_passes(chosen, rejected)
    tests_met = max(tests_met, 1)
    return Pair(
        chosen,
        rejected,
        kind,
        confidence(ranked, chosen, rejected),
        passes / tests_met - fewer / tests_met,
        (ranked.scores[chosen], ranked.scores[rejected]),
        tests,
        weights,
        ties,
    )


def unusable(row: MatrixRow, ranked: RankedRow) -> str | None:
    """Why a problem can give no correctness pair, None if nothing speaks against it."""
    if not row.codes:
        return "no_programs"
    if not row.tests:
        return "no_tests"
    if row.unloadable.all():
        return "no_program_loads"
    if not row.passed.any():
        return "nothing_passes"
    if not any(row.passed[i].any() for i in ranked.best):
        return "best_passes_nothing"
    broken_below = any(row.unloadable[i] for i, score in enumerate(ranked.scores) if score is None)
    return None if ranked.informative or broken_below else "uninformative"


def _candidates(
    row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]
) -> list[tuple[int, int, float]]:
    """All (chosen, rejected, weight) that the rules allow, by representative."""
    into, weight = representatives(row)
    passes = row.passed.sum(axis=1)
    best = set(ranked.best)
    chosen = sorted({into[i] for i in best if passes[i] > 0})
    rejected = sorted({into[i] for i in range(len(row.codes)) if i not in best})
    found = []
    for c in chosen:
        for r in rejected:
            if row.race is None:
                more = passes[c] > passes[r]
            else:  # a cell that was not run is no failure
                high, low, _ = row.common_passes(c, r)
                more = high > low
            if not more:
                funnel["candidate_not_fewer_tests"] += 1
            elif normal_form(row.codes[c]) == normal_form(row.codes[r]):
                funnel["candidate_equal_code"] += 1
            elif confidence(ranked, c, r) < options.min_confidence:
                funnel["candidate_low_confidence"] += 1
            else:
                found.append((c, r, float(weight[c] * weight[r])))
    return found


def _mixed(
    loadable: list[tuple[int, int, float]],
    broken: list[tuple[int, int, float]],
    count: int,
    rng: np.random.Generator,
) -> list[tuple[int, int, float]]:
    """Draws up to `count` candidates of both lists together, at most half of them broken."""
    candidates = [*loadable, *broken]
    broken_left = min(count // 2, len(loadable))
    picked: list[tuple[int, int, float]] = []
    for i in draw([w for *_, w in candidates], len(candidates), rng):
        is_broken = i >= len(loadable)
        if len(picked) < count and (broken_left > 0 or not is_broken):
            picked.append(candidates[i])
            broken_left -= is_broken
    return picked


@BUILDERS.register("ranked")
def correctness_pairs(
    row: MatrixRow, ranked: RankedRow, options: PairOptions, funnel: Counter[str]
) -> list[Pair]:
    """The correctness pairs of one problem.

    Args:
        row: Programs, tests, results.
        ranked: The ranking of the same row.
        options: How many, by which seed.
        funnel: Counts `problem_*` (why a problem gave nothing, or `problem_with_pairs`) and `candidate_*`.
    """
    reason = unusable(row, ranked)
    candidates = [] if reason else _candidates(row, ranked, options, funnel)
    loadable = [c for c in candidates if not row.unloadable[c[1]]]
    broken = [c for c in candidates if row.unloadable[c[1]]]
    if not options.unloadable_rejected:
        funnel["candidate_unloadable"] += len(broken)
        broken = []
    rng = task_rng(options.seed, "correctness", row.task_id)
    picked = _mixed(loadable, broken, options.pairs_per_problem, rng)
    if not picked:
        fallback = "nothing_below" if not candidates else "only_unloadable_below"
        funnel[f"problem_{reason or fallback}"] += 1
        return []
    funnel["problem_with_pairs"] += 1
    return [pair_of(row, ranked, c, r) for c, r, _ in picked]
