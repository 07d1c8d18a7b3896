"""Rankers: against direct implementations, under permutation, and where there is nothing to rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import betaln

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.b4 import b4_scores, default_hyperparameters
from codegen_eval.ranking.common import (
    RANKERS,
    Ranking,
    consensus_sets,
    make_view,
    tie_levels,
)
from tests.conftest import cpu_bound

NAMES = ("b4", "codet", "maxpass", "mbr_exec", "random")
SET_BASED = ("b4", "codet", "mbr_exec")
matrices = st.tuples(st.integers(0, 8), st.integers(0, 8)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1))
)


def rank(name: str, matrix: object, **options: object) -> Ranking:
    return RANKERS.get(name)(make_view(matrix, **options))  # type: ignore[arg-type]


def b4_by_definition(matrix: np.ndarray, alpha_xy: float, beta_0: float) -> list[float]:
    """Log posterior of each program's set: cells are counted one by one, as in the paper's generative
    model."""
    codes, tests = matrix.shape
    scores = []
    for i in range(codes):
        x = [bool((matrix[j] == matrix[i]).all()) for j in range(codes)]
        y = [bool(v) for v in matrix[i]]
        n, k = sum(x), sum(y)
        passes, fails = {True: 0, False: 0}, {True: 0, False: 0}
        for j in range(codes):
            for t in range(tests):
                if not x[j]:
                    (passes if matrix[j, t] else fails)[y[t]] += 1
        scores.append(
            betaln(k + alpha_xy, tests - k + 1)
            + betaln(n + alpha_xy, codes - n + 1)
            + betaln(passes[True] + 1, fails[True] + 1)
            + betaln(passes[False] + 1, fails[False] + beta_0)
        )
    return scores


@settings(max_examples=80, deadline=None)
@given(matrices, st.sampled_from([(1.0, 1.0), (10.0, 10.0), (1000.0, 1e5), (0.5, 3.0)]))
def test_b4_equals_its_definition(matrix: np.ndarray, hyper: tuple[float, float]) -> None:
    scores = b4_scores(matrix, alpha_xy=hyper[0], beta_0=hyper[1])
    np.testing.assert_allclose(scores, b4_by_definition(matrix, *hyper), rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(matrices, st.data())
def test_counted_programs_and_tests_weigh_like_repeated_ones(matrix: np.ndarray, data: st.DataObject) -> None:
    codes, tests = matrix.shape
    code_counts = data.draw(st.lists(st.integers(1, 4), min_size=codes, max_size=codes))
    test_counts = data.draw(st.lists(st.integers(1, 4), min_size=tests, max_size=tests))
    repeated = np.repeat(np.repeat(matrix, code_counts, axis=0), test_counts, axis=1)
    first = np.cumsum([0, *code_counts])[:-1]
    for name in (*SET_BASED, "maxpass"):
        counted = rank(name, matrix, code_counts=code_counts, test_counts=test_counts)
        spelled_out = rank(name, repeated)
        np.testing.assert_allclose(counted.scores, spelled_out.scores[first], rtol=1e-9, atol=1e-9)
        assert set(counted.best) == {i for i, f in enumerate(first) if f in spelled_out.best}


@settings(max_examples=60, deadline=None)
@given(matrices, st.randoms(use_true_random=False))
def test_ranking_does_not_depend_on_order(matrix: np.ndarray, random: object) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    rows, columns = rng.permutation(matrix.shape[0]), rng.permutation(matrix.shape[1])
    for name in (*SET_BASED, "maxpass"):
        straight, permuted = rank(name, matrix), rank(name, matrix[rows][:, columns])
        np.testing.assert_allclose(straight.scores[rows], permuted.scores, rtol=1e-9, atol=1e-9)
        assert {int(rows[i]) for i in permuted.best} == set(straight.best)


def test_a_matrix_that_lies_by_columns_in_memory_has_the_same_sets() -> None:
    matrix = np.random.default_rng(0).random((6, 20)) < 0.5
    matrix[3] = matrix[1]
    sets = consensus_sets(matrix[:, list(range(20))])
    assert sets.members == consensus_sets(matrix).members and (1, 3) in sets.members


@settings(max_examples=60, deadline=None)
@given(matrices)
def test_programs_of_one_consensus_set_score_alike(matrix: np.ndarray) -> None:
    sets = consensus_sets(matrix)
    assert sorted(i for group in sets.members for i in group) == list(range(matrix.shape[0]))
    assert [group[0] for group in sets.members] == sorted(group[0] for group in sets.members)
    for group in sets.members:
        assert (matrix[list(group)] == matrix[group[0]]).all()
        for name in SET_BASED:
            assert len({rank(name, matrix).scores[i] for i in group}) == 1
    assert len({row.tobytes() for row in matrix}) == len(sets.members) or matrix.shape[1] == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (1, 1), (1, 0), (5, 4)])
@pytest.mark.parametrize("value", [0, 1])
def test_degenerate_matrices_give_a_defined_result(name: str, shape: tuple[int, int], value: int) -> None:
    ranking = rank(name, np.full(shape, value))
    assert ranking.scores.shape == (shape[0],) and np.isfinite(ranking.scores).all()
    if name != "random":
        assert ranking.best == tuple(range(shape[0]))
        assert not ranking.informative
    else:
        assert len(ranking.best) == min(shape[0], 1)


def test_levels_hold_every_program_once_and_best_is_the_first() -> None:
    ranking = rank("maxpass", [[1, 1], [0, 0], [1, 1], [1, 0]])
    assert ranking.levels == ((0, 2), (3,), (1,))
    assert ranking.best == (0, 2) and ranking.informative


def test_scores_tie_within_the_tolerance_only() -> None:
    assert tie_levels([1e6, 1e6 + 1e-4, 0.0]) == ((0, 1), (2,))
    assert tie_levels([0.0, 1e-10, -1e-8]) == ((0, 1), (2,))
    assert tie_levels([]) == ()
    with pytest.raises(ValueError, match="NaN"):
        tie_levels([1.0, math.nan])


def test_codet_counts_frequencies_only_when_told() -> None:
    matrix, counts = [[1, 1, 0], [0, 0, 1]], [1, 9]
    plain = rank("codet", matrix, code_counts=counts, test_counts=[1, 1, 1], weights="ones")
    assert plain.scores.tolist() == [2.0, 1.0]
    counted = rank("codet", matrix, code_counts=counts, test_counts=[1, 1, 1])
    assert counted.scores.tolist() == [2.0, 3.0]
    programs_only = rank("codet", matrix, code_counts=counts, test_counts=[9, 9, 1], weights="codes")
    assert programs_only.scores.tolist() == [2.0, 3.0]


def test_random_order_comes_from_the_generator_alone() -> None:
    matrix = np.eye(6)
    one, two, other = (rank("random", matrix, rng=np.random.default_rng(s)).scores for s in (1, 1, 2))
    assert (one == two).all() and (one != other).any()


def test_default_hyperparameters_scale_with_the_matrix() -> None:
    assert default_hyperparameters(10, 30) == (10.0, 10.0)
    assert default_hyperparameters(1, 0) == (10.0, 10.0)
    assert default_hyperparameters(100, 100) == pytest.approx((1e3, 1e5))
    assert default_hyperparameters(3000, 100) == pytest.approx((3000.0, 1e5))
    middle = default_hyperparameters(30, 60)
    assert 30.0 <= middle[0] < 1e3 and 10.0 < middle[1] < 1e5
    ranking = rank("b4", np.eye(3))
    assert ranking.parameters == {"alpha_xy": 10.0, "beta_0": 10.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha_xy": 0.0}, "alpha_xy must be a finite number above 0, got 0.0"),
        ({"beta_0": math.nan}, "beta_0 must be a finite number above 0, got nan"),
        ({"alpha_xy": math.inf}, "alpha_xy must be a finite number above 0, got inf"),
        ({"code_counts": [1, 2]}, r"code_counts has shape \(2,\), the matrix needs \(3,\)"),
        ({"code_counts": [0, 1, 1]}, "at least 1"),
        ({"test_counts": [1, math.nan, 1]}, "finite counts"),
    ],
)
def test_bad_values_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rank("b4", np.eye(3), **options)


@pytest.mark.parametrize("matrix", [[1, 0], [[0.5]], [[2]], [[math.nan]], np.zeros((1, 1, 1))])
def test_what_is_no_matrix_of_zeros_and_ones_is_refused(matrix: object) -> None:
    with pytest.raises(ValueError, match="pass matrix"):
        rank("maxpass", matrix)


def test_unknown_ranker_names_the_nearest() -> None:
    with pytest.raises(CodealignError, match="did you mean 'maxpass'"):
        RANKERS.get("maxpas")
    assert set(NAMES) <= set(RANKERS.names())


def test_b4_picks_the_right_programs_in_the_authors_simulation() -> None:
    """Default setting of the paper's simulation; 0.986 over 17,837 trials by the authors' strategy, CodeT
    0.824."""
    rng = np.random.default_rng(7)
    success: dict[str, list[float]] = {"b4": [], "codet": []}
    while len(success["b4"]) < 600:
        x, y = rng.random(10) < 0.2, rng.random(30) < 0.3
        if not x.any() or x.all():
            continue
        wrong = rng.random((10, 30)) < np.where(y, 0.4, 0.1)
        matrix = np.where(x[:, None], y[None, :], wrong)
        for name, found in success.items():
            found.append(float(x[list(rank(name, matrix).best)].mean()))
    # Two standard errors of 600 trials, about 0.01 and 0.03.
    assert np.mean(success["b4"]) == pytest.approx(0.986, abs=0.012)
    assert np.mean(success["codet"]) == pytest.approx(0.824, abs=0.032)


def test_large_matrices_need_no_quadratic_work() -> None:
    matrix = np.random.default_rng(0).random((1000, 1000)) < 0.5
    # The authors' cubic code needs 9 s.
    with cpu_bound(2):
        found = rank("b4", matrix)
    assert found.scores.shape == (1000,) and found.best == (int(found.scores.argmax()),)
