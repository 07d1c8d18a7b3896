"""What all rankers share: weighted pass matrices, consensus sets, and rankings with all ties visible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError
from codegen_eval.registry import Registry

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Weights = Literal["counts", "codes", "ones"]
ScoreKind = Literal["log_posterior", "log_probability", "ordinal", "none"]

TIE_TOLERANCE = 1e-9
_PACKED_FROM = 256  # tests; packing takes longer than it saves for fewer


@dataclass(frozen=True, slots=True)
class View:
    """What a ranker sees of one problem.

    Attributes:
        passed: bool (codes, tests); an unknown cell counts as not passed.
        code_weights: (codes,) how often each distinct program was sampled, or ones.
        test_weights: (tests,) how often each distinct test was written, or ones.
        rng: Generator of this problem alone, so that order and number of problems do not matter; None = one
            that is always the same.
        alpha_xy: B4's prior count of right programs and right tests; None = default for the matrix.
        beta_0: B4's prior count of failures of wrong programs on wrong tests; None = default for the matrix.
        damping: CodeDPO's d.
        sweeps: CodeDPO's T.
    """

    passed: BoolArray
    code_weights: FloatArray
    test_weights: FloatArray
    rng: np.random.Generator | None = None
    alpha_xy: float | None = None
    beta_0: float | None = None
    damping: float = 0.85
    sweeps: int = 10


@dataclass(frozen=True, slots=True)
class Ranking:
    """Scores of a problem's programs.

    Attributes:
        scores: (codes,) float64, higher is better, no NaN.
        kind: What scores mean: log posteriors of sets up to a constant, log probabilities of programs, an
            order only, or nothing.
        parameters: Settings in force, for the record.
        test_scores: (tests,) float64, higher is better; None where the method does not score tests.
        floor: Scores tie within 1e-9 * max(floor, |score|).
    """

    scores: FloatArray
    kind: ScoreKind
    parameters: dict[str, float]
    test_scores: FloatArray | None = None
    floor: float = 1.0

    @property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Tied program indices, best level first."""
        return tie_levels(self.scores, self.floor)

    @property
    def best(self) -> tuple[int, ...]:
        """All equally best programs; empty when there are none."""
        return tuple(best_places(self.scores, self.floor))

    @property
    def informative(self) -> bool:
        """Whether any two programs are told apart."""
        if not self.scores.size:
            return False
        return bool(self.scores.min() < _level_end(float(self.scores.max()), self.floor))


Ranker = Callable[[View], Ranking]
RANKERS: Registry[Ranker] = Registry("ranker", "codealign.rankers", "codegen_eval.ranking")


class ConsensusSets(NamedTuple):
    """Programs grouped by equal rows; sets are ordered by their smallest member.

    A named tuple: a frozen dataclass takes two to six times as long to make, which counts in small matrices.

    Attributes:
        first: (sets,) the smallest member of each set.
        set_of: (codes,) the set of each program.
        rows: bool (sets, tests), the common row of each set.
    """

    first: NDArray[np.intp]
    set_of: NDArray[np.intp]
    rows: BoolArray

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Program indices of each set, ascending."""
        found: list[list[int]] = [[] for _ in self.first]
        for i, number in enumerate(self.set_of.tolist()):
            found[number].append(i)
        return tuple(map(tuple, found))


def as_passed(passed: ArrayLike) -> BoolArray:
    """A two-dimensional pass matrix as booleans; CodealignError for other shapes and for values besides 0
    and 1.
    """
    array = np.asarray(passed)
    if array.ndim != 2:
        raise CodealignError(f"a pass matrix has two dimensions (programs, tests), this one has {array.ndim}")
    if array.dtype == np.bool_:
        return array
    if array.size and not np.isin(array, (0, 1)).all():
        places = np.argwhere(~np.isin(array, (0, 1)))[0]
        raise CodealignError(
            f"a pass matrix holds 0 and 1 only, but program {places[0]} on test {places[1]} is "
            f"{array[tuple(places)]!r}; turn unknown cells into 0 first"
        )
    return array.astype(np.bool_)


def as_weights(weights: ArrayLike | None, size: int, name: str) -> FloatArray:
    """Multiplicities as float64 (size,); ones for None; CodealignError unless finite and at least 1."""
    if weights is None:
        return np.ones(size)
    array = np.asarray(weights, dtype=np.float64)
    if array.shape != (size,):
        raise CodealignError(f"{name} has shape {array.shape}, the matrix needs ({size},)")
    if not (np.isfinite(array).all() and (array >= 1).all()):
        raise CodealignError(f"{name} must be finite counts of at least 1")
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
    damping: float = 0.85,
    sweeps: int = 10,
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
        damping: Handed to CodeDPO.
        sweeps: Handed to CodeDPO.
    """
    matrix = as_passed(passed)
    codes, tests = matrix.shape
    return View(
        passed=matrix,
        code_weights=as_weights(code_counts if weights != "ones" else None, codes, "code_counts"),
        test_weights=as_weights(test_counts if weights == "counts" else None, tests, "test_counts"),
        rng=rng,
        alpha_xy=alpha_xy,
        beta_0=beta_0,
        damping=damping,
        sweeps=sweeps,
    )


def consensus_sets(passed: ArrayLike) -> ConsensusSets:
    """Group programs by equal rows, in O(codes x tests): rows are looked up as byte strings, long ones packed
    to bits.
    """
    matrix = as_passed(passed)
    # A choice of columns may lie in memory column by column, and so would its bits.
    cells = np.ascontiguousarray(matrix if matrix.shape[1] <= _PACKED_FROM else np.packbits(matrix, axis=1))
    keys = cells.view(f"V{cells.shape[1]}").ravel().tolist() if cells.size else [b""] * len(matrix)
    smallest: dict[bytes, int] = {}
    # Each program's smallest equal one; `map` keeps the loop out of the interpreter.
    equal = list(map(smallest.setdefault, keys, range(len(keys))))
    every = np.arange(len(keys))
    if len(smallest) == len(keys):
        return ConsensusSets(every, every, matrix)
    leader = np.array(equal, dtype=np.intp)
    first = (leader == every).nonzero()[0]
    number = np.empty(len(keys), dtype=np.intp)  # of the set, at its smallest member; never read elsewhere
    number[first] = every[: len(first)]
    return ConsensusSets(first, number[leader], matrix.take(first, axis=0))


def set_sizes(sets: ConsensusSets, code_weights: FloatArray | None) -> FloatArray:
    """Programs (sets,) of each set, counted with their multiplicity; None counts each once."""
    return np.bincount(sets.set_of, code_weights, len(sets.first)).astype(np.float64, copy=False)


def best_places(scores: FloatArray, floor: float = 1.0) -> list[int]:
    """Indices of all best scores, ties within 1e-9 * max(floor, |score|) included; none where none is."""
    if not scores.size:
        return []
    found: list[int] = (scores >= _level_end(float(scores.max()), floor)).nonzero()[0].tolist()
    return found


def tie_levels(scores: ArrayLike, floor: float = 1.0) -> tuple[tuple[int, ...], ...]:
    """Indices in tied levels, best first: a score within 1e-9 * max(floor, |score|) of its level's best ties
    with it. CodealignError for a NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    if np.isnan(values).any():
        raise CodealignError("a score is NaN: check the ranker's hyper-parameters")
    levels: list[list[int]] = []
    bound = np.inf
    order = np.argsort(-values, kind="stable")
    for i, value in zip(order.tolist(), values[order].tolist(), strict=True):
        if not levels or value < bound:
            levels.append([])
            bound = _level_end(value, floor)
        levels[-1].append(i)
    return tuple(tuple(sorted(level)) for level in levels)


def _level_end(best: float, floor: float) -> float:
    """The least score that ties with the best one of its level."""
    return best - TIE_TOLERANCE * max(floor, abs(best))


def ranking(
    scores: ArrayLike,
    kind: ScoreKind,
    *,
    test_scores: FloatArray | None = None,
    floor: float = 1.0,
    **parameters: float,
) -> Ranking:
    """A `Ranking` from the scores (codes,) of all programs; `floor` as in `tie_levels`."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size and math.isnan(values.max()):  # NaN where one of them is
        raise CodealignError("a score is NaN: check the ranker's hyper-parameters")
    return Ranking(values, kind, parameters, test_scores, floor)


def positive(name: str, value: float) -> float:
    """A hyper-parameter that must be finite and above 0; CodealignError otherwise."""
    if not (math.isfinite(value) and value > 0):
        raise CodealignError(f"{name} must be a finite number above 0, got {value}")
    return float(value)
