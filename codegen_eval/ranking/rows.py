"""From a row of `matrices.jsonl` to a row of `rankings.jsonl`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import RANKERS, BoolArray, FloatArray, Ranking, Weights, make_view, ranking
from codegen_eval.ranking.raced import Race, raced_scores
from sandbox import PassMatrix, Verdict

# How matrices that were filled adaptively can be ranked: the race counts each text once, and by B4.
RACED = {"ranker": "b4", "weights": "ones", "drop_trivial_tests": False}
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
        damping: CodeDPO's.
        sweeps: CodeDPO's.
    """

    ranker: str
    weights: Weights = "counts"
    alpha_xy: float | None = None
    beta_0: float | None = None
    drop_unloadable: bool = True
    drop_trivial_tests: bool = False
    seed: int = 0
    damping: float = 0.85
    sweeps: int = 10


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A checked row of `matrices.jsonl`: distinct programs and tests, and what happened.

    Attributes:
        passed: bool (codes, tests); unknown cells are False.
        code_counts: (codes,) multiplicities.
        test_counts: (tests,) multiplicities.
        unloadable: bool (codes,): did not compile.
        sources: (tests,) where each test came from.
        known: bool (codes, tests): the sandbox ran the cell; all of them when absent.
        race: How far each program came, where cells were filled adaptively (`raced.py`); None where every
            program was asked every test.
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
    known: BoolArray | None = None
    race: Race | None = None

    @property
    def failed(self) -> BoolArray:
        """Cells (codes, tests) that ran and did not pass."""
        return ~self.passed if self.known is None else self.known & ~self.passed

    def need_full(self, what: str) -> None:
        """Says that `what` cannot do with cells that were never run.

        Raises:
            CodealignError: The matrix was filled adaptively.
        """
        if self.race is not None:
            raise CodealignError(
                f"task {self.task_id!r}: {what} needs the whole matrix, and this one was filled adaptively "
                "(execution: adaptive), where cells that were not run are unknown, not failed; use the "
                "ranker b4 with weights ones, without hygiene and fit, and pairs of the builder ranked, or "
                "make the matrices with execution: full"
            )

    def common_passes(self, one: int, other: int) -> tuple[int, int, int]:
        """Passes of two programs on the tests that both were asked, and how many tests that are."""
        cells = self.passed[[one, other]]
        if self.race is not None:
            cells = cells[:, self.race.asked[[one, other]].all(axis=0)]
        passes = cells.sum(axis=1)
        return int(passes[0]), int(passes[1]), cells.shape[1]

    def with_tests(self, kept: Sequence[int]) -> MatrixRow:
        """The same row with some of its tests, in the given order."""
        places = np.asarray(kept, dtype=np.intp)
        return replace(
            self,
            tests=tuple(self.tests[j] for j in kept),
            sources=tuple(self.sources[j] for j in kept),
            passed=self.passed[:, places],
            test_counts=self.test_counts[places],
            known=None if self.known is None else self.known[:, places],
            race=None if self.race is None else replace(self.race, asked=self.race.asked[:, places]),
        )


def read_matrix_row(row: Mapping[str, Any]) -> MatrixRow:
    """Checks a row of `matrices.jsonl`; a CodealignError names what does not fit."""
    try:
        matrix = PassMatrix.from_json(row["matrix"])
        codes = tuple(str(code) for code in row["codes"])
        tests = tuple(str(test["text"]) for test in row["tests"])
        sources = tuple(str(test["source"]) for test in row["tests"])
        task_id, entry_point = str(row["task_id"]), str(row["entry_point"])
        raced = row.get("race")
        race = None if raced is None else Race.from_json(raced, len(codes), len(tests))
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
        known=np.asarray(matrix.known, dtype=np.bool_),
        race=race,
    )


class Kept(Protocol):
    """What ranking needs to know of hygiene: `hygiene.Cleaned`."""

    tests: list[int]
    test_counts: FloatArray
    aside: set[int]
    counts: Counter[str]


def task_rng(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone, not on the order of problems."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])


def programs_taking_part(row: MatrixRow, options: RankOptions) -> list[int]:
    """Programs that are ranked: all, or those that compile."""
    return [int(i) for i in np.flatnonzero(~(row.unloadable & options.drop_unloadable))]


def rank_matrix(
    row: MatrixRow, options: RankOptions, codes: Sequence[int] | None = None
) -> tuple[Ranking, list[int]]:
    """Ranks the programs that take part.

    Args:
        row: Programs, tests, results.
        options: How.
        codes: The programs that take part; by the options when absent.

    Returns:
        The ranking, and for each of its programs the index in the row.
    """
    row.need_full(f"the ranker {options.ranker} with weights {options.weights}")
    codes = programs_taking_part(row, options) if codes is None else list(codes)
    view = make_view(
        row.passed[codes],
        row.code_counts[codes],
        row.test_counts,
        weights=options.weights,
        rng=task_rng(options.seed, "rank", row.task_id),
        alpha_xy=options.alpha_xy,
        beta_0=options.beta_0,
        damping=options.damping,
        sweeps=options.sweeps,
    )
    return RANKERS.get(options.ranker)(view), codes


def informative_tests(row: MatrixRow, options: RankOptions) -> list[int]:
    """Tests that are used: all, or those that not every ranked program passes."""
    codes = programs_taking_part(row, options)
    if not (options.drop_trivial_tests and codes):
        return list(range(len(row.tests)))
    return [int(j) for j in np.flatnonzero(~row.passed[codes].all(axis=0))]


def _raced_row(row: MatrixRow, race: Race, options: RankOptions) -> dict[str, Any]:
    """The ranking of a problem whose cells were filled adaptively; `left_race` names who left, and how sure
    that is.
    """
    codes = programs_taking_part(row, options)
    found, parameters = raced_scores(row.passed, race, codes, options.alpha_xy, options.beta_0)
    places = list(found)
    among = ranking([found[i] for i in places], "log_posterior")
    left = [i for i in codes if i not in found]
    return {
        "task_id": row.task_id,
        "ranker": options.ranker,
        "weights": options.weights,
        "parameters": parameters,
        "kind": among.kind,
        "scores": [found.get(i) for i in range(len(row.codes))],
        "best": [places[i] for i in among.best],
        "informative": among.informative or bool(places and left),
        "left_race": {"programs": left, "confidence": max(0.5, 1.0 - race.least)},
    }


def ranking_row(row: MatrixRow, options: RankOptions, cleaned: Kept | None = None) -> dict[str, Any]:
    """One row of `rankings.jsonl`; a program or test that was left out has the score null.

    Args:
        row: Programs, tests, results.
        options: How to rank.
        cleaned: What hygiene left of the row (`hygiene.Cleaned`); everything when absent.
    """
    if row.race is not None and cleaned is None and RACED.items() <= asdict(options).items():
        return _raced_row(row, row.race, options)
    codes = programs_taking_part(row, options)
    tests = informative_tests(row, options)
    used = row
    if cleaned is not None:
        codes = [i for i in codes if i not in cleaned.aside]
        tests = [j for j in tests if j in set(cleaned.tests)]
        used = replace(row, test_counts=cleaned.test_counts)
    ranked, codes = rank_matrix(used.with_tests(tests), options, codes)
    scores: list[float | None] = [None] * len(row.codes)
    for index, score in zip(codes, ranked.scores, strict=True):
        scores[index] = float(score)
    found = {
        "task_id": row.task_id,
        "ranker": options.ranker,
        "weights": options.weights,
        "parameters": dict(ranked.parameters),
        "kind": ranked.kind,
        "scores": scores,
        "best": [codes[i] for i in ranked.best],
        "informative": ranked.informative,
    }
    if ranked.test_scores is not None:
        test_scores: list[float | None] = [None] * len(row.tests)
        for place, value in zip(tests, ranked.test_scores, strict=True):
            test_scores[place] = float(value)
        found["test_scores"] = test_scores
    if cleaned is not None:
        found["tests"] = tests
        found["test_counts"] = [float(c) for c in cleaned.test_counts]
        found["aside"] = sorted(cleaned.aside)
        found["hygiene"] = dict(cleaned.counts)
    return found
