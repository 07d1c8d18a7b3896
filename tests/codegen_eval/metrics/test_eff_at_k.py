"""eff@k against enumeration, its limits, and what it refuses."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.eff_at_k import eff_at_k, eff_values
from codegen_eval.metrics.pass_at_k import pass_at_k

SCORES = st.lists(st.floats(0, 2, width=32), min_size=1, max_size=9)


@given(SCORES, st.data())
def test_it_is_the_mean_of_the_maximum_over_all_subsets(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    wanted = np.mean([max(chosen) for chosen in combinations(scores, k)])
    assert eff_at_k(scores, k) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(10, 3, 1), (10, 3, 5), (200, 13, 100), (7, 0, 2), (7, 7, 7)])
def test_with_scores_of_0_and_1_it_is_pass_at_k(n: int, c: int, k: int) -> None:
    assert eff_at_k([1.0] * c + [0.0] * (n - c), k) == pytest.approx(pass_at_k(n, c, k)[0], abs=1e-13)


@pytest.mark.parametrize("k", [1, 10, 1000, 50_000, 99_999, 100_000])
def test_equal_scores_give_that_score_for_any_number_of_samples(k: int) -> None:
    assert eff_at_k(np.full(100_000, 0.7), k) == pytest.approx(0.7, abs=1e-12)


def test_many_samples_agree_with_exact_integers() -> None:
    from fractions import Fraction
    from math import comb

    n, k = 3000, 40
    scores = [(i * 37 % 101) / 101 for i in range(n)]
    ordered = sorted(scores)
    exact = sum(Fraction(comb(r, k - 1), comb(n, k)) * Fraction(ordered[r]) for r in range(k - 1, n))
    assert eff_at_k(scores, k) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "k", "said"),
    [
        ([0.1, float("nan")], 1, "score 1 of the problem is nan"),
        ([0.1, float("inf")], 1, "finite"),
        ([0.1], 0, "at least 1"),
        ([0.1], True, "whole number"),
        ([0.1], 1.0, "whole number"),
        ([0.1, 0.2], 3, "k=3 needs at least 3 samples, the problem has 2"),
        ([], 1, "shape"),
        ([[0.1]], 1, "shape"),
    ],
)
def test_what_has_no_value_is_refused(scores: list[float], k: int, said: str) -> None:
    with pytest.raises(CodealignError, match=said):
        eff_at_k(scores, k)


def test_problems_may_differ_in_samples_and_are_named() -> None:
    assert eff_values([[0.5], [0.0, 1.0]], 1).tolist() == [0.5, 0.5]
    with pytest.raises(CodealignError, match="task 'b' has 1"):
        eff_values([[0.5, 0.1], [0.0]], 2, task_ids=["a", "b"])
    with pytest.raises(CodealignError, match="at least one problem"):
        eff_values([], 1)
