"""The pair job without its files: matrices and rankings in, preference rows and the funnel out.

Sees prompts, the model's programs and tests, and docstring examples; hidden tests and reference solutions
have no way in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.pairs import acecoder, codedpo, correctness, dstc, posterior
from codegen_eval.pairs.credible import credible_pairs
from codegen_eval.pairs.drawing import draw
from codegen_eval.pairs.efficiency import efficiency_pairs
from codegen_eval.pairs.options import BUILDERS, PairOptions
from codegen_eval.pairs.records import Pair, RankedRow, read_ranking_row, trl_row
from codegen_eval.ranking.rows import MatrixRow, read_matrix_row, task_rng
from codegen_eval.records import Prompt

# The modules that fill the registry of builders.
_OURS = (acecoder, codedpo, correctness, dstc, posterior)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One problem, ready for pairs."""

    prompt: Prompt
    row: MatrixRow
    ranked: RankedRow


def join(
    prompts: Mapping[str, Prompt],
    matrices: Iterable[Mapping[str, Any]],
    rankings: Iterable[Mapping[str, Any]],
) -> list[Ranked]:
    """Puts matrices, rankings and prompts together, in the order of the matrices.

    Raises:
        CodealignError: If a task lacks its ranking or its prompt, or rows do not fit each other.
    """
    by_task = {str(r.get("task_id")): r for r in rankings}
    joined = []
    for raw in matrices:
        row = read_matrix_row(raw)
        if row.task_id not in by_task:
            raise CodealignError(
                f"task {row.task_id!r} has a matrix but no ranking; rank this matrices.jsonl again"
            )
        if row.task_id not in prompts:
            raise CodealignError(
                f"task {row.task_id!r} of the matrices is not in the benchmark; give the same "
                "--benchmark, --dataset and --split as for `codealign execute`"
            )
        ranked = read_ranking_row(by_task[row.task_id], row)
        joined.append(Ranked(prompts[row.task_id], ranked.restricted(row), ranked))
    return joined


def efficiency_quota(correctness: int, available: int, share: float) -> int:
    """How many efficiency pairs make up `share` of all pairs, at most those available."""
    return min(available, round(share / (1.0 - share) * correctness))


def preference_rows(
    problems: Sequence[Ranked],
    timings: Mapping[str, Mapping[str, Any]],
    options: PairOptions,
    efficiency_share: float,
    funnel: Counter[str],
) -> list[dict[str, Any]]:
    """All pairs as TRL preference rows: problem by problem, correctness before efficiency.

    Efficiency pairs are drawn at random, by the seed, until they make up `efficiency_share` of all pairs;
    correctness pairs are never dropped for them nor made up.

    Args:
        problems: Joined rows.
        timings: Rows of `timings.jsonl` by task id.
        options: How many pairs a problem gives, the seed.
        efficiency_share: In [0, 1).
        funnel: Counts what was dropped, where and why.
    """
    build = BUILDERS.get(options.builder)
    time_pairs = credible_pairs if options.efficiency == "credible" else efficiency_pairs
    correct: list[list[Pair]] = []
    fast: list[list[Pair]] = []
    for problem in problems:
        if options.builder != "ranked":
            problem.row.need_full(f"the builder {options.builder}")
        correct.append(build(problem.row, problem.ranked, options, funnel))
        timing = timings.get(problem.row.task_id)
        fast.append(
            time_pairs(problem.row, problem.ranked, timing, options, funnel) if timing is not None else []
        )
    places = [(i, j) for i, pairs in enumerate(fast) for j in range(len(pairs))]
    quota = efficiency_quota(sum(map(len, correct)), len(places), efficiency_share)
    kept = {places[i] for i in draw([1.0] * len(places), quota, task_rng(options.seed, "efficiency share"))}
    funnel["efficiency_pairs_over_share"] += len(places) - quota
    rows = []
    for i, problem in enumerate(problems):
        pairs = correct[i] + [pair for j, pair in enumerate(fast[i]) if (i, j) in kept]
        for pair in pairs:
            funnel[f"pairs_{pair.kind}"] += 1
            rows.append(trl_row(pair, problem.row, problem.ranked.ranker, problem.prompt))
    return rows
