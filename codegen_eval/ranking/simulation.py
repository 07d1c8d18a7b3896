"""B4's generative model (arXiv 2409.08692): matrices with known right programs and right tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import BoolArray


@dataclass(frozen=True, slots=True)
class Setting:
    """Parameters of the model; the defaults are the authors' (simulated.py).

    Attributes:
        theta_x: Probability that a program is right.
        theta_y: Probability that a test is right.
        theta_0: Probability that a wrong program passes a wrong test.
        theta_1: Probability that a wrong program passes a right test.
        codes: Programs of a matrix.
        tests: Tests of a matrix.

    Raises:
        CodealignError: A probability outside [0, 1], or a matrix in which no trial can have right and wrong
            programs.
    """

    theta_x: float = 0.2
    theta_y: float = 0.3
    theta_0: float = 0.1
    theta_1: float = 0.4
    codes: int = 10
    tests: int = 30

    def __post_init__(self) -> None:
        for name in ("theta_x", "theta_y", "theta_0", "theta_1"):
            if not 0 <= getattr(self, name) <= 1:
                raise CodealignError(f"{name} is {getattr(self, name)}; give a probability")
        if not 0 < self.theta_x < 1 or self.codes < 2 or self.tests < 0:
            raise CodealignError(
                "a trial needs right and wrong programs: give theta_x between 0 and 1, at least 2 programs, "
                f"and no negative number of tests (got {self.theta_x}, {self.codes}, {self.tests})"
            )


@dataclass(frozen=True, slots=True)
class Trial:
    """One matrix, bool (codes, tests), with the truth: right programs (codes,) and right tests (tests,)."""

    passed: BoolArray
    right: NDArray[np.bool_]
    right_tests: NDArray[np.bool_]


def trials(setting: Setting, count: int, rng: np.random.Generator) -> Iterator[Trial]:
    """`count` matrices that have right and wrong programs; as in the authors' code, others are skipped.

    A right program passes exactly the right tests; a wrong one passes a right test with probability theta_1
    and a wrong one with theta_0.
    """
    while count > 0:
        right = rng.random(setting.codes) < setting.theta_x
        right_tests = rng.random(setting.tests) < setting.theta_y
        if not right.any() or right.all():
            continue
        chance = np.where(right_tests, setting.theta_1, setting.theta_0)
        wrong_pass = rng.random((setting.codes, setting.tests)) < chance
        yield Trial(np.where(right[:, None], right_tests, wrong_pass), right, right_tests)
        count -= 1
