"""The values of pair building: a checked ranking row and a pair; pairs as TRL preference rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.hygiene import sha
from codegen_eval.pairs.spans import common_ends
from codegen_eval.ranking.common import ScoreKind, tie_levels
from codegen_eval.ranking.rows import MatrixRow
from codegen_eval.records import Prompt

PairKind = Literal["correctness", "efficiency", "code_test"]


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A checked row of `rankings.jsonl`.

    Attributes:
        scores: One per program; None for a program that was left out of the ranking.
        best: All equally best programs.
        level: Place of each program's tied level, 0 = best; None for a program without score.
        levels: Number of levels.
        kind: What score differences mean.
        tests: Tests that hygiene left, and the multiplicities of all tests; None where there was none.
        left_race: Programs that left adaptive execution before its end.
        left_confidence: How sure it is that each of these is not better than the best.
    """

    ranker: str
    scores: tuple[float | None, ...]
    best: tuple[int, ...]
    level: tuple[int | None, ...]
    levels: int
    kind: ScoreKind
    informative: bool
    tests: tuple[tuple[int, ...], tuple[float, ...]] | None = None
    left_race: frozenset[int] = frozenset()
    left_confidence: float = 1.0

    def restricted(self, row: MatrixRow) -> MatrixRow:
        """The row with the tests that the ranking used."""
        if self.tests is None:
            return row
        kept, counts = self.tests
        return replace(row, test_counts=np.array(counts, dtype=np.float64)).with_tests(kept)


def read_ranking_row(row: Mapping[str, Any], matrix: MatrixRow) -> RankedRow:
    """Checks a row of `rankings.jsonl` against its matrix; a CodealignError names what does not fit."""
    try:
        scores = tuple(None if s is None else float(s) for s in row["scores"])
        best = tuple(int(i) for i in row["best"])
        ranker, kind, informative = str(row["ranker"]), row["kind"], bool(row["informative"])
        tests = None
        if row.get("tests") is not None:
            tests = (tuple(int(j) for j in row["tests"]), tuple(float(c) for c in row["test_counts"]))
        left = row.get("left_race") or {"programs": (), "confidence": 1.0}
        left_race, sure = frozenset(map(int, left["programs"])), float(left["confidence"])
    except (KeyError, TypeError, ValueError) as error:
        raise CodealignError(
            f"not a row of rankings.jsonl (task {matrix.task_id!r}): {type(error).__name__}: {error}"
        ) from error
    if len(scores) != len(matrix.codes) or any(not 0 <= i < len(scores) for i in best):
        raise CodealignError(
            f"task {matrix.task_id!r}: the ranking has {len(scores)} programs, the matrix "
            f"{len(matrix.codes)}; rank this matrices.jsonl again"
        )
    if tests and (len(tests[1]) != len(matrix.tests) or any(not 0 <= j < len(tests[1]) for j in tests[0])):
        raise CodealignError(
            f"task {matrix.task_id!r}: the ranking used other tests than the matrix has; rank this "
            "matrices.jsonl again"
        )
    if kind not in get_args(ScoreKind):
        raise CodealignError(f"task {matrix.task_id!r}: unknown kind of scores {kind!r} in the ranking")
    scored = [i for i, s in enumerate(scores) if s is not None]
    levels = tie_levels([s for s in scores if s is not None])
    level: list[int | None] = [None] * len(scores)
    for number, members in enumerate(levels):
        for member in members:
            level[scored[member]] = number
    return RankedRow(
        ranker, scores, best, tuple(level), len(levels), kind, informative, tests, left_race, sure
    )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two programs of one matrix row, by index.

    Attributes:
        chosen: The better program.
        rejected: The worse one.
        kind: What it is better at; `code_test` for a program and a test on either side.
        confidence: In [0.5, 1], how sure the order is.
        margin: Share of tests passed by the chosen minus that of the rejected.
        scores: The ranking's scores of both; None for a program without one.
        tests: Test that follows the chosen and the rejected program; None for programs alone.
        weights: Probability that chosen is right, and that rejected is wrong; None where no method says so.
        ties: How many choices were as good as this one; None where the method has no best choice.
    """

    chosen: int
    rejected: int
    kind: PairKind
    confidence: float
    margin: float
    scores: tuple[float | None, float | None] = (None, None)
    tests: tuple[int, int] | None = None
    weights: tuple[float, float] | None = None
    ties: int | None = None


def completion_of(code: str, prompt: Prompt) -> str:
    """The program text after the prompt; a CodealignError if the program does not start with it."""
    if not code.startswith(prompt.prompt):
        raise CodealignError(
            f"task {prompt.task_id!r}: a program of the matrix does not start with the benchmark's prompt; "
            "give the benchmark, data set and split that `codealign execute` was given"
        )
    return code[len(prompt.prompt) :]


def _side(code: str, test: str | None, prompt: Prompt) -> str:
    completion = completion_of(code, prompt)
    return completion if test is None else f"{completion.rstrip()}\n\n{test.strip()}\n"


def trl_row(pair: Pair, matrix: MatrixRow, ranker: str, prompt: Prompt) -> dict[str, Any]:
    """One row of `pairs.jsonl`: TRL's `prompt`, `chosen`, `rejected`, what is known of the order, where the
    two differ, and where they come from.
    """
    codes = (matrix.codes[pair.chosen], matrix.codes[pair.rejected])
    tests = (None, None) if pair.tests is None else tuple(matrix.tests[k] for k in pair.tests)
    chosen, rejected = (_side(code, test, prompt) for code, test in zip(codes, tests, strict=True))
    prefix, suffix = common_ends(chosen, rejected)
    return {
        "prompt": prompt.prompt,
        "chosen": chosen,
        "rejected": rejected,
        "kind": pair.kind,
        "confidence": round(pair.confidence, 6),
        "label_smoothing": round(1.0 - pair.confidence, 6),
        "margin": round(pair.margin, 6),
        "chosen_score": pair.scores[0],
        "rejected_score": pair.scores[1],
        "chosen_weight": round(pair.weights[0], 6) if pair.weights else 1.0,
        "rejected_weight": round(pair.weights[1], 6) if pair.weights else 1.0,
        "ties": pair.ties,
        "prefix_chars": prefix,
        "suffix_chars": suffix,
        "task_id": matrix.task_id,
        "chosen_sha": sha(codes[0]),
        "rejected_sha": sha(codes[1]),
        "ranker": ranker,
        "sources": sorted(set(matrix.sources)),
    }
