"""What all rankers share: weighted pass matrices, consensus sets, and rankings with all ties visible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.registry import Registry

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Weights = Literal["counts", "codes", "ones"]
ScoreKind = Literal["log_posterior", "ordinal", "none"]

TIE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class View:
    """What a ranker sees of one problem.

    Attributes:
        passed: bool (codes, tests); an unknown cell counts as not passed.
        code_weights: (codes,) how often each distinct program was sampled, or ones.
        test_weights: (tests,) how often each distinct test was written, or ones.
        rng: Generator of this problem alone, so that order and number of problems do not matter.
        alpha_xy: B4's prior count of right programs and right tests; None = default for the matrix.
        beta_0: B4's prior count of failures of wrong programs on wrong tests; None = default for the matrix.
    """

    passed: BoolArray
    code_weights: FloatArray
    test_weights: FloatArray
    rng: np.random.Generator
    alpha_xy: float | None = None
    beta_0: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of a problem's programs.

    Attributes:
        scores: (codes,) float64, higher is better.
        levels: Tied program indices, best level first.
        best: All programs of the best level.
        informative: Whether the ranking separates any two programs.
        kind: What a difference of two scores means: log odds, an order only, or nothing.
        parameters: Settings in force, for the record.
    """

    scores: FloatArray
    levels: tuple[tuple[int, ...], ...]
    kind: ScoreKind
    parameters: dict[str, float]

    @property
    def best(self) -> tuple[int, ...]:
        """All equally best programs; empty when there are none."""
        return self.levels[0] if self.levels else ()

    @property
    def informative(self) -> bool:
        """Whether any two programs are told apart."""
        return len(self.levels) > 1


Ranker = Callable[[View], Ranking]
RANKERS: Registry[Ranker] = Registry("ranker", "codealign.rankers", "codegen_eval.ranking")


@dataclass(frozen=True, slots=True)
class ConsensusSets:
    """Programs grouped by equal rows; sets are ordered by their smallest member.

    Attributes:
        members: Program indices of each set, ascending.
        set_of: (codes,) the set of each program.
        rows: bool (sets, tests), the common row of each set.
    """

    members: tuple[tuple[int, ...], ...]
    set_of: NDArray[np.intp]
    rows: BoolArray


def as_passed(passed: ArrayLike) -> BoolArray:
    """A two-dimensional pass matrix as booleans; ValueError for other shapes and for values besides 0 and
    1.
    """
    array = np.asarray(passed)
    if array.ndim != 2:
        raise ValueError(f"a pass matrix has two dimensions (programs, tests), this one has {array.ndim}")
    if array.dtype != np.bool_ and array.size and not np.isin(array, (0, 1)).all():
        raise ValueError("a pass matrix holds 0 and 1 only; turn unknown cells into 0 first")
    return array.astype(np.bool_)


def as_weights(weights: ArrayLike | None, size: int, name: str) -> FloatArray:
    """Multiplicities as float64 (size,); ones for None; ValueError unless finite and at least 1."""
    if weights is None:
        return np.ones(size)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}, the matrix needs ({size},)")
    if not (np.isfinite(array).all() and (array >= 1).all()):
        raise ValueError(f"{name} must be finite counts of at least 1")
    return array


def make_view(
    passed: ArrayLike,
    code_counts: ArrayLike | None = None,
    test_counts: ArrayLike | None = None,
    *,
    weights: Weights = "counts",
    rng: np.random.Generator | None = None,
    alpha_xy: float | None = None,
    beta_0: float | None = None,
) -> View:
    """A ranker's view of a matrix.

    Args:
        passed: (codes, tests) of 0 and 1.
        code_counts: (codes,) multiplicities of the distinct programs.
        test_counts: (tests,) multiplicities of the distinct tests.
        weights: `counts` uses both multiplicities, `codes` those of the programs alone, `ones` none.
        rng: For rankers that draw; a fixed one when absent.
        alpha_xy: Handed to B4.
        beta_0: Handed to B4.
    """
    matrix = as_passed(passed)
    codes, tests = matrix.shape
    return View(
        passed=matrix,
        code_weights=as_weights(code_counts if weights != "ones" else None, codes, "code_counts"),
        test_weights=as_weights(test_counts if weights == "counts" else None, tests, "test_counts"),
        rng=rng or np.random.default_rng(0),
        alpha_xy=alpha_xy,
        beta_0=beta_0,
    )


def consensus_sets(passed: ArrayLike) -> ConsensusSets:
    """Group programs by equal rows, in O(codes x tests): rows are packed to bits and compared as byte
    strings.
    """
    matrix = as_passed(passed)
    codes, tests = matrix.shape
    if codes == 0:
        return ConsensusSets((), np.zeros(0, dtype=np.intp), np.zeros((0, tests), dtype=np.bool_))
    packed = np.packbits(matrix, axis=1)
    # A leading zero byte keeps the width above 0 when there are no tests.
    packed = np.ascontiguousarray(np.pad(packed, ((0, 0), (1, 0))))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank_of = np.argsort(np.argsort(first))
    set_of = rank_of[inverse.ravel()].astype(np.intp)
    order = np.argsort(set_of, kind="stable")
    ends = np.cumsum(np.bincount(set_of))[:-1]
    members = tuple(tuple(int(i) for i in group) for group in np.split(order, ends))
    return ConsensusSets(members, set_of, matrix[np.sort(first)])


def tie_levels(scores: ArrayLike) -> tuple[tuple[int, ...], ...]:
    """Indices in tied levels, best first: a score within 1e-9 * max(1, |score|) of its level's best ties with
    it.
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a score is NaN: check the ranker's hyper-parameters")
    levels: list[list[int]] = []
    anchor = np.nan
    for i in np.argsort(-values, kind="stable"):
        if not levels or anchor - values[i] > TIE_TOLERANCE * max(1.0, abs(anchor)):
            levels.append([])
            anchor = values[i]
        levels[-1].append(int(i))
    return tuple(tuple(sorted(level)) for level in levels)


def ranking(scores: ArrayLike, kind: ScoreKind, **parameters: float) -> Ranking:
    """A `Ranking` from the scores (codes,) of all programs."""
    values = np.asarray(scores, dtype=np.float64)
    return Ranking(values, tie_levels(values), kind, parameters)
