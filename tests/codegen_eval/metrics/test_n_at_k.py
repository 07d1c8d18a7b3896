"""n@k against counting all draws and all choices."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.n_at_k import n_at_k
from codegen_eval.metrics.pass_at_k import pass_at_k


def enumerated(samples: int, filtered: int, right: int, n: int, k: int) -> float:
    """Samples 0 to right-1 are right, those up to filtered-1 pass the public tests."""
    solved = 0.0
    for drawn in combinations(range(samples), k):
        passed = [i for i in drawn if i < filtered]
        chosen = list(combinations(passed, min(n, len(passed))))
        solved += sum(any(i < right for i in subset) for subset in chosen) / len(chosen)
    return solved / comb(samples, k)


@pytest.mark.parametrize("samples", range(1, 7))
def test_equals_enumeration_of_all_draws_and_choices(samples: int) -> None:
    for filtered in range(samples + 1):
        for right in range(filtered + 1):
            for k in range(1, samples + 1):
                for n in range(1, k + 1):
                    wanted = enumerated(samples, filtered, right, n, k)
                    assert n_at_k(samples, filtered, right, n, k)[0] == pytest.approx(wanted, abs=1e-12)


def test_without_a_filter_k_of_k_is_pass_at_k_and_n_of_k_is_pass_at_n() -> None:
    for right in (0, 1, 7, 30):
        assert n_at_k(50, 50, right, 10, 10)[0] == pytest.approx(pass_at_k(50, right, 10)[0], abs=1e-12)
        assert n_at_k(50, 50, right, 3, 20)[0] == pytest.approx(pass_at_k(50, right, 3)[0], abs=1e-12)


def test_filtering_helps_and_more_samples_help_more() -> None:
    values = [n_at_k(1000, filtered, 10, 10, 100)[0] for filtered in (1000, 100, 20, 10)]
    assert values == sorted(values) and values[-1] == pytest.approx(pass_at_k(1000, 10, 100)[0], abs=1e-12)
    values = [n_at_k(1000, 100, 10, 10, k)[0] for k in (10, 50, 200, 1000)]
    assert values == sorted(values) and values[-1] == pytest.approx(pass_at_k(100, 10, 10)[0], abs=1e-12)


def test_many_problems_at_once_and_a_hundred_thousand_samples() -> None:
    values = n_at_k([100_000, 100_000], [500, 500], [0, 1], 10, 1000)
    assert values[0] == 0
    # Of 1000 drawn the right sample is there with chance 1/100; then about 5 passed, so all are submitted.
    assert values[1] == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((10, 5, 6, 1, 1), "problem 0 has 6 right samples among 5 filtered"),
        ((10, 5, -1, 1, 1), "right samples"),
        ((10, 5, 2.5, 1, 1), "2.5 right samples"),
        ((10, 5, float("nan"), 1, 1), "right samples"),
        ((10, 11, 1, 1, 1), "impossible"),
        ((10, 5, 1, 0, 1), "1 <= n <= k"),
        ((10, 5, 1, 5, 4), "1 <= n <= k"),
        ((10, 5, 1, 1, 11), "needs at least 11 samples"),
    ],
)
def test_impossible_counts_are_refused(arguments: tuple[float, ...], why: str) -> None:
    with pytest.raises(CodealignError, match=why):
        n_at_k(*arguments)  # type: ignore[arg-type]
    with pytest.raises(CodealignError, match="task 'b'"):
        n_at_k([5, 5], [5, 1], [1, 2], 1, 1, task_ids=["a", "b"])


def test_shapes_are_those_of_the_problems() -> None:
    assert n_at_k(np.full(3, 10), 5, [0, 1, 5], 1, 10).shape == (3,)
