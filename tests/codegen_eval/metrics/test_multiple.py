from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.multiple import holm


def rejected(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as it is told: step down while the smallest p value is below level / tests left."""
    left = sorted(range(len(p_values)), key=lambda i: p_values[i])
    found: set[int] = set()
    while left and p_values[left[0]] <= level / len(left):
        found.add(left.pop(0))
    return found


def test_adjusted_values_reject_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p_values = (rng.random(rng.integers(1, 8)) ** 3).tolist()
        adjusted = holm(p_values)
        for level in (0.01, 0.05, 0.2):
            assert {i for i, p in enumerate(adjusted) if p <= level} == rejected(p_values, level)


def test_the_order_of_the_tests_does_not_matter() -> None:
    p_values = [0.01, 0.02, 0.03, 0.9]
    wanted = dict(zip(p_values, holm(p_values), strict=True))
    # By hand: 4 x .01; 3 x .02; 2 x .03, not less than the one before; .9.
    assert list(wanted.values()) == pytest.approx([0.04, 0.06, 0.06, 0.9])
    for order in permutations(p_values):
        assert holm(order).tolist() == pytest.approx([wanted[p] for p in order])


def test_nothing_is_above_one_and_no_tests_are_refused() -> None:
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    for bad in ([], [float("nan")]):
        with pytest.raises(CodealignError):
            holm(bad)
