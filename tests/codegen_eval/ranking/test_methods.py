"""CodeDPO, DSTC, AceCoder, PLUM and the posterior over programs: by hand, by enumeration, on bad input."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import betaln

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.b4 import b4_scores, count_sets
from codegen_eval.ranking.codedpo import codedpo_scores
from codegen_eval.ranking.common import RANKERS, Ranking, consensus_sets, make_view
from codegen_eval.ranking.posterior import probabilities

matrices = st.tuples(st.integers(0, 6), st.integers(0, 6)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


def rank(name: str, matrix: object, **options: object) -> Ranking:
    return RANKERS.get(name)(make_view(matrix, **options))  # type: ignore[arg-type]


def exact_codedpo(matrix: np.ndarray, d: Fraction, sweeps: int) -> tuple[list[Fraction], list[Fraction]]:
    """The published update in rational arithmetic."""
    codes, tests = [Fraction(1)] * matrix.shape[0], [Fraction(1)] * matrix.shape[1]
    for _ in range(sweeps):
        new_codes = [
            (1 - d) * c + d * sum(t for t, e in zip(tests, row, strict=True) if e)
            for c, row in zip(codes, matrix, strict=True)
        ]
        new_tests = [
            (1 - d) * t + d * sum(c for c, e in zip(codes, column, strict=True) if e)
            for t, column in zip(tests, matrix.T, strict=True)
        ]
        codes, tests = new_codes, new_tests
    return codes, tests


@settings(max_examples=40, deadline=None)
@given(
    matrices, st.sampled_from([Fraction(17, 20), Fraction(1, 2), Fraction(1), Fraction(0)]), st.integers(0, 6)
)
def test_codedpo_is_its_update_in_exact_arithmetic(matrix: np.ndarray, d: Fraction, sweeps: int) -> None:
    found = codedpo_scores(matrix, damping=float(d), sweeps=sweeps)
    for scores, exact in zip(found, exact_codedpo(matrix, d, sweeps), strict=True):
        np.testing.assert_allclose(scores, [float(v) for v in exact], rtol=1e-12)


def test_codedpo_keeps_every_ratio_where_scores_would_overflow() -> None:
    matrix = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    few = codedpo_scores(matrix, sweeps=60)
    many = codedpo_scores(matrix, sweeps=3000)
    assert all(np.isfinite(scores).all() and (scores > 0).all() for scores in many)
    # After 60 sweeps the scores lie along the leading singular vectors, and stay there.
    for early, late in zip(few, many, strict=True):
        np.testing.assert_allclose(late / late[0], early / early[0], rtol=1e-9)
    ranking = rank("codedpo", matrix, sweeps=3000)
    assert ranking.levels == ((0,), (1,), (2,))


def test_codedpo_tells_small_scores_apart_and_scores_tests() -> None:
    ranking = rank("codedpo", [[0, 0], [0, 1]], damping=0.99, sweeps=10)
    assert ranking.levels == ((1,), (0,)) and ranking.scores[0] == pytest.approx(0.01**10)
    assert ranking.test_scores is not None and ranking.test_scores[1] > ranking.test_scores[0]
    assert ranking.parameters == {"damping": 0.99, "sweeps": 10.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": math.nan}, "damping must be a share"),
        ({"damping": 1.5}, "damping must be a share"),
        ({"sweeps": -1}, "sweeps must be a whole number"),
        ({"sweeps": 2.5}, "sweeps must be a whole number"),
        ({"sweeps": True}, "sweeps must be a whole number"),
    ],
)
def test_bad_settings_of_codedpo_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        rank("codedpo", np.eye(2), **options)


def test_the_simple_rules_by_hand() -> None:
    matrix = [[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 1, 0]]
    assert rank("acecoder", matrix).scores.tolist() == [1.0, 0.75, 0.25]
    assert rank("plum", matrix).scores.tolist() == [1.0, 0.0, 0.0]
    dstc = rank("dstc", matrix, code_counts=[1, 1, 3])
    assert dstc.best == (0,) and dstc.test_scores is not None
    assert dstc.test_scores.tolist() == [3.0, 3.0, 0.0, 4.0]
    assert rank("plum", np.zeros((2, 0))).scores.tolist() == [0.0, 0.0]
    assert rank("acecoder", matrix, test_counts=[1, 1, 1, 5]).scores.tolist() == [1.0, 0.375, 0.125]


@pytest.mark.parametrize("name", ["codedpo", "dstc", "acecoder", "plum", "posterior"])
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (5, 4)])
@pytest.mark.parametrize("value", [0, 1])
def test_where_nothing_tells_programs_apart_all_tie(name: str, shape: tuple[int, int], value: int) -> None:
    ranking = rank(name, np.full(shape, value))
    assert ranking.best == tuple(range(shape[0])) and not ranking.informative
    assert np.isfinite(ranking.scores).all()
    if ranking.test_scores is not None:
        assert ranking.test_scores.shape == (shape[1],) and np.isfinite(ranking.test_scores).all()


def enumerated(matrix: np.ndarray, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of programs and of tests by enumerating every non-empty set of right programs."""
    codes, tests = matrix.shape
    total, programs, columns = 0.0, np.zeros(codes), np.zeros(tests)
    for bits in itertools.product([False, True], repeat=codes):
        x = np.array(bits)
        if not x.any() or not (matrix[x] == matrix[x][0]).all():
            continue
        y = matrix[x][0].astype(bool)
        on, off = matrix[~x][:, y], matrix[~x][:, ~y]
        joint = math.exp(
            betaln(y.sum() + alpha, tests - y.sum() + 1)
            + betaln(x.sum() + alpha, codes - x.sum() + 1)
            + betaln(on.sum() + 1, on.size - on.sum() + 1)
            + betaln(off.sum() + 1, off.size - off.sum() + beta)
        )
        total += joint
        programs += joint * x
        columns += joint * y
    return programs / total, columns / total


@settings(max_examples=60, deadline=None)
@given(matrices, st.sampled_from([(10.0, 10.0), (1.0, 1.0), (0.4, 8.0)]))
def test_the_posterior_is_that_of_all_sets_of_right_programs(
    matrix: np.ndarray, hyper: tuple[float, float]
) -> None:
    if not len(matrix):
        return
    ranking = rank("posterior", matrix, alpha_xy=hyper[0], beta_0=hyper[1])
    programs, tests = enumerated(matrix, *hyper)
    np.testing.assert_allclose(np.exp(ranking.scores), programs, rtol=1e-9)
    np.testing.assert_allclose(ranking.test_scores, tests, rtol=1e-9, atol=1e-12)


def test_posterior_counts_equal_texts_once_and_stays_finite_for_huge_priors() -> None:
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    plain, counted = rank("posterior", matrix), rank("posterior", matrix, code_counts=[1, 9, 1])
    assert plain.scores.tolist() == counted.scores.tolist()
    huge = rank("posterior", np.eye(40), alpha_xy=1e9, beta_0=1e9)
    assert np.isfinite(huge.scores).all() and (huge.scores <= 0).all()
    with pytest.raises(CodealignError, match="beta_0 must be a finite number above 0, got nan"):
        rank("posterior", np.eye(2), beta_0=math.nan)


def test_rows_of_the_posterior_sum_to_one() -> None:
    matrix = np.array([[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    sets = consensus_sets(matrix)
    right, rows = probabilities(count_sets(sets, np.ones(4), np.ones(3)), 1.0, 3.0)
    assert rows.sum() == pytest.approx(1.0) and (right <= rows + 1e-12).all()
    assert right[0] < rows[0]  # one of the two may pass by accident


def test_weights_that_are_no_whole_numbers_do_not_reach_the_table_of_whole_counts() -> None:
    matrix = np.array([[1, 0], [1, 0], [0, 1]])
    scores = b4_scores(matrix, alpha_xy=2.0, beta_0=3.0, code_weights=[1.5, 1.5, 1.5])
    n, k, codes, tests = 3.0, 1.0, 4.5, 2.0
    by_hand = (
        betaln(k + 2, tests - k + 1)
        + betaln(n + 2, codes - n + 1)
        + betaln(0 + 1, 1.5 + 1)
        + betaln(1.5 + 1, 0 + 3)
    )
    assert scores[0] == pytest.approx(by_hand)


@pytest.mark.parametrize("matrix", [[[0, 255]], [[True, None]], [["1"]]])
def test_unknown_cells_are_refused_with_their_place(matrix: object) -> None:
    with pytest.raises(CodealignError, match="pass matrix holds 0 and 1 only, but program 0 on test"):
        rank("b4", matrix)
