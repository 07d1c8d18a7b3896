from __future__ import annotations

import numpy as np
import pytest

from codegen_eval.report.arrange import arrange, thin


def matrix(*rows: str) -> np.ndarray:
    return np.array([[c == "1" for c in row] for row in rows], np.bool_)


def test_sets_of_equal_rows_stand_in_the_order_of_their_scores() -> None:
    passed = matrix("0110", "1100", "0110", "0001")
    order = arrange(passed, [1.0, 5.0, 1.0, 3.0], np.ones(4))
    assert order.sets == ((1,), (3,), (0, 2))


def test_equal_scores_are_told_apart_by_how_often_programs_were_drawn() -> None:
    order = arrange(matrix("10", "01", "01"), [0.0, 0.0, 0.0], np.array([2.0, 1.0, 4.0]))
    assert order.sets == ((2, 1), (0,))


def test_columns_are_those_of_the_best_set_first_and_equal_ones_stand_together() -> None:
    order = arrange(matrix("01011", "11010", "00100"), [3.0, 2.0, 1.0], np.ones(3))
    # The best set passes 1, 3, 4; the second of these 1 and 3; of the others it passes 0, the third passes 2.
    assert order.columns == ((1, 3), (4,), (0,), (2,))


def test_every_program_and_test_comes_exactly_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, m = rng.integers(1, 9, 2)
        passed = rng.random((n, m)) < 0.5
        scores = [None if rng.random() < 0.2 else float(rng.integers(3)) for _ in range(n)]
        tests = [j for j in range(m) if rng.random() < 0.8]
        order = arrange(passed, scores, np.ones(n), tests)
        assert sorted([*order.unranked, *(i for own in order.sets for i in own)]) == list(range(n))
        assert sorted([*order.left_out, *(j for own in order.columns for j in own)]) == list(range(m))
        assert set(order.left_out).isdisjoint(tests)
        for own in order.sets:
            assert (passed[list(own)][:, tests] == passed[own[0], tests]).all()
        rows = [passed[own[0], tests].tobytes() for own in order.sets]
        assert len(set(rows)) == len(rows)


def test_without_a_ranking_sets_that_pass_more_come_first() -> None:
    assert arrange(matrix("100", "111", "110"), None, np.ones(3)).sets == ((1,), (2,), (0,))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty_matrices_are_arranged_too(shape: tuple[int, int]) -> None:
    order = arrange(np.zeros(shape, np.bool_), [0.0] * shape[0], np.ones(shape[0]))
    assert sum(map(len, order.sets)) == shape[0] and sum(map(len, order.columns)) == shape[1]


def test_thinning_keeps_order_and_what_is_marked() -> None:
    items = list(range(100, 0, -1))
    found = thin(items, 10, {1, 57})
    assert len(found) == 10 and {1, 57} <= set(found)
    assert found == sorted(found, reverse=True)
    assert thin(items, 100) == items
    assert len(thin(items, 5, set(items))) == 5
