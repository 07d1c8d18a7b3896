"""From matrices to rankings to pairs, problem by problem, so that memory does not grow with the job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from codegen_eval.datajob.contamination import Index
from codegen_eval.datajob.flow import hygiene_of
from codegen_eval.datajob.prompts import Candidate
from codegen_eval.pairs.hygiene import normal_form, sha
from codegen_eval.pairs.job import Ranked, preference_rows
from codegen_eval.pairs.options import PairOptions
from codegen_eval.pairs.records import read_ranking_row
from codegen_eval.pairs.spans import common_ends
from codegen_eval.ranking.calibration import fit_hyperparameters
from codegen_eval.ranking.rows import RankOptions, programs_taking_part, ranking_row, read_matrix_row
from codegen_eval.records import Prompt

Row = dict[str, Any]


def fitted(options: RankOptions, matrices: Iterable[Mapping[str, Any]]) -> RankOptions:
    """The options with B4's hyper-parameters fitted to what is ranked of all rows; no labels are seen.

    Raises:
        CodealignError: There are too few problems.
    """
    passed = []
    for raw in matrices:
        row = read_matrix_row(raw)
        left = hygiene_of(raw, row)
        aside = left.aside if left else set()
        codes = [i for i in programs_taking_part(row, options) if i not in aside]
        passed.append(row.passed[codes][:, list(left.tests) if left else range(len(row.tests))])
    alpha_xy, beta_0 = fit_hyperparameters(passed)
    return replace(options, alpha_xy=alpha_xy, beta_0=beta_0)


def rankings(matrices: Iterable[Mapping[str, Any]], options: RankOptions) -> Iterator[Row]:
    """Rows of `rankings.jsonl`, in the order of the matrices."""
    for raw in matrices:
        row = read_matrix_row(raw)
        yield ranking_row(row, options, hygiene_of(raw, row))


class Sieve:
    """Keeps each pair once, and none that holds a benchmark's text; says what was dropped.

    Two pairs are one if both sides are equal programs but for comments, docstrings and layout, whatever their
    prompts say.

    Args:
        index: What no side may share a run of words with beyond what its prompt does; None for nothing.
    """

    def __init__(self, index: Index | None) -> None:
        self._index = index
        self._seen: set[bytes] = set()

    def keep(self, row: Row, funnel: Counter[str], dropped: list[Row]) -> bool:
        """Whether a pair stays."""
        sides = [normal_form(row["prompt"] + row[side]) for side in ("chosen", "rejected")]
        key = bytes.fromhex(sha("\0".join([row["kind"], *sides])))[:16]
        if key in self._seen:
            funnel["pairs_repeated"] += 1
            return False
        for side in ("chosen", "rejected") if self._index else ():
            hit = self._index.find(row[side]) if self._index else None
            if hit is not None:
                funnel["pairs_contaminated"] += 1
                dropped.append(
                    {"task_id": row["task_id"], "origin": row["origin"], "reason": "contaminated_program"}
                    | {"side": side, "benchmark": hit.benchmark, "of": hit.task_id, "words": hit.words}
                )
                return False
        self._seen.add(key)
        return True


def problem_pairs(
    candidate: Candidate, raw: Mapping[str, Any], ranking: Mapping[str, Any], options: PairOptions, chat: bool
) -> tuple[list[Row], Counter[str]]:
    """The pairs of one problem with their provenance, and their part of the funnel.

    In a chat the pair's prompt and sides are messages (`conversational`); elsewhere a side continues its
    prompt.
    """
    funnel: Counter[str] = Counter(problems=1)
    row = read_matrix_row(raw)
    ranked = read_ranking_row(ranking, row)
    # An answer in a chat is a whole program.
    shown = Prompt(row.task_id, "", row.entry_point) if chat else candidate.prompt
    made = preference_rows([Ranked(shown, ranked.restricted(row), ranked)], {}, options, 0.0, funnel)
    del funnel["efficiency_pairs_over_share"]  # nothing is timed here: equal jobs are equal bytes
    normal = {normal_form(code) for code in row.codes}
    funnel["programs_distinct"] += len(row.codes)
    funnel["programs_distinct_normalised"] += len(normal)
    return [{**pair, "origin": candidate.origin, "licence": candidate.licence} for pair in made], funnel


def conversational(row: Row, question: str) -> Row:
    """A pair as messages, TRL's conversational form; programs stand in a code fence."""
    sides = {side: f"```python\n{row[side].rstrip()}\n```" for side in ("chosen", "rejected")}
    prefix, suffix = common_ends(sides["chosen"], sides["rejected"])
    return {
        **row,
        "prompt": [{"role": "user", "content": question}],
        **{side: [{"role": "assistant", "content": text}] for side, text in sides.items()},
        "prefix_chars": prefix,
        "suffix_chars": suffix,
    }
