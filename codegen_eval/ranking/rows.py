"""From a row of `matrices.jsonl` to a row of `rankings.jsonl`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import RANKERS, BoolArray, FloatArray, Ranking, Weights, make_view
from sandbox import PassMatrix, Verdict

_SYNTAX_ERROR = list(Verdict).index(Verdict.syntax_error)


@dataclass(frozen=True, slots=True)
class RankOptions:
    """How a matrix is ranked.

    Attributes:
        ranker: A registered ranker.
        weights: Which multiplicities count: of programs and tests, of programs alone, or none.
        alpha_xy: B4's; None = default for the matrix.
        beta_0: B4's; None = default for the matrix.
        drop_unloadable: Leave programs that do not compile out of the ranking, as B4 and CodeT do; they have
            no score.
        drop_trivial_tests: Leave out tests that every program passes: they tell nothing, and B4 with small
            hyper-parameters can fall for them. Off by default, as in the papers.
        seed: For rankers that draw.
    """

    ranker: str
    weights: Weights = "counts"
    alpha_xy: float | None = None
    beta_0: float | None = None
    drop_unloadable: bool = True
    drop_trivial_tests: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A checked row of `matrices.jsonl`: distinct programs and tests, and what happened.

    Attributes:
        passed: bool (codes, tests); unknown cells are False.
        code_counts: (codes,) multiplicities.
        test_counts: (tests,) multiplicities.
        unloadable: bool (codes,): did not compile.
        sources: (tests,) where each test came from.
    """

    task_id: str
    entry_point: str
    codes: tuple[str, ...]
    tests: tuple[str, ...]
    sources: tuple[str, ...]
    passed: BoolArray
    code_counts: FloatArray
    test_counts: FloatArray
    unloadable: BoolArray


def read_matrix_row(row: Mapping[str, Any]) -> MatrixRow:
    """Checks a row of `matrices.jsonl`; a CodealignError names what does not fit."""
    try:
        matrix = PassMatrix.from_json(row["matrix"])
        codes = tuple(str(code) for code in row["codes"])
        tests = tuple(str(test["text"]) for test in row["tests"])
        sources = tuple(str(test["source"]) for test in row["tests"])
        task_id, entry_point = str(row["task_id"]), str(row["entry_point"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CodealignError(
            f"not a row of matrices.jsonl (task {row.get('task_id')!r}): {type(error).__name__}: {error}"
        ) from error
    shape = np.asarray(matrix.passed).shape
    if shape != (len(codes), len(tests)):
        raise CodealignError(
            f"task {task_id!r}: the matrix is {shape[0]} x {shape[1]}, but there are "
            f"{len(codes)} programs and {len(tests)} tests; make the file again with `codealign execute`"
        )
    verdicts = np.asarray(matrix.verdicts)
    return MatrixRow(
        task_id=task_id,
        entry_point=entry_point,
        codes=codes,
        tests=tests,
        sources=sources,
        passed=np.asarray(matrix.passed, dtype=np.bool_) & np.asarray(matrix.known, dtype=np.bool_),
        code_counts=np.asarray(matrix.code_counts, dtype=np.float64),
        test_counts=np.asarray(matrix.test_counts, dtype=np.float64),
        unloadable=(verdicts == _SYNTAX_ERROR).any(axis=1),
    )


def task_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone, not on the order of problems."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])


def rank_matrix(row: MatrixRow, options: RankOptions) -> tuple[Ranking, list[int]]:
    """Ranks the programs that take part.

    Returns:
        The ranking, and for each of its programs the index in the row.
    """
    codes = np.flatnonzero(~(row.unloadable & options.drop_unloadable))
    passed = row.passed[codes]
    tests = np.arange(len(row.tests))
    if options.drop_trivial_tests and len(codes):
        tests = np.flatnonzero(~passed.all(axis=0))
    view = make_view(
        passed[:, tests],
        row.code_counts[codes],
        row.test_counts[tests],
        weights=options.weights,
        rng=task_rng(options.seed, "rank", row.task_id),
        alpha_xy=options.alpha_xy,
        beta_0=options.beta_0,
    )
    return RANKERS.get(options.ranker)(view), [int(i) for i in codes]


def ranking_row(row: MatrixRow, options: RankOptions) -> dict[str, Any]:
    """One row of `rankings.jsonl`; a program that was left out has the score null."""
    ranking, codes = rank_matrix(row, options)
    scores: list[float | None] = [None] * len(row.codes)
    for index, score in zip(codes, ranking.scores, strict=True):
        scores[index] = float(score)
    return {
        "task_id": row.task_id,
        "ranker": options.ranker,
        "weights": options.weights,
        "parameters": dict(ranking.parameters),
        "kind": ranking.kind,
        "scores": scores,
        "best": [codes[i] for i in ranking.best],
        "informative": ranking.informative,
    }
