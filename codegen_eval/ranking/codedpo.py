"""CodeDPO's self-validation score: programs vouch for tests, tests for programs (arXiv 2410.05605).

    c_i(s) = (1 - d) c_i(s-1) + d sum_j E[i,j] t_j(s-1),    t_j likewise from c(s-1);    c(0) = t(0) = 1

Both sides use the values of the step before; nothing is normalised by degree. d = 0.85 and T = 10 are the
paper's. The update of the tests is the mirror image of that of the programs, as its digests describe it.
Departs in one point: where a score passes 1e150, both sides are divided by the same number, which keeps
every order and every ratio.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import RANKERS, FloatArray, Ranking, View, as_passed, as_weights, ranking

_HUGE = 1e150


def codedpo_scores(
    passed: ArrayLike,
    *,
    damping: float = 0.85,
    sweeps: int = 10,
    code_weights: ArrayLike | None = None,
    test_weights: ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Scores of programs and of tests after `sweeps` synchronous updates.

    Args:
        passed: (codes, tests) of 0 and 1.
        damping: d, in [0, 1].
        sweeps: T, at least 0.
        code_weights: (codes,) multiplicities, ones when absent.
        test_weights: (tests,) multiplicities, ones when absent.

    Returns:
        (codes,) and (tests,) float64, up to one common factor where they would pass 1e150.

    Raises:
        CodealignError: Bad shape, weights below 1, a damping that is no share, a negative number of sweeps.
    """
    if not 0 <= damping <= 1:
        raise CodealignError(f"CodeDPO's damping must be a share between 0 and 1, got {damping}")
    if isinstance(sweeps, bool) or not isinstance(sweeps, int) or sweeps < 0:
        raise CodealignError(f"CodeDPO's sweeps must be a whole number of at least 0, got {sweeps!r}")
    matrix = as_passed(passed).astype(np.float64)
    code_w = as_weights(code_weights, matrix.shape[0], "code_weights")
    test_w = as_weights(test_weights, matrix.shape[1], "test_weights")
    codes, tests = np.ones(matrix.shape[0]), np.ones(matrix.shape[1])
    for _ in range(sweeps):
        codes, tests = (
            (1 - damping) * codes + damping * (matrix @ (test_w * tests)),
            (1 - damping) * tests + damping * ((code_w * codes) @ matrix),
        )
        largest = max(codes.max(initial=0.0), tests.max(initial=0.0))
        if largest > _HUGE:
            factor = math.ldexp(1.0, -math.frexp(largest)[1])
            codes, tests = codes * factor, tests * factor
    return codes, tests


@RANKERS.register("codedpo")
def codedpo(view: View) -> Ranking:
    """CodeDPO's score of every program and test; ties are relative, since the scores span magnitudes."""
    codes, tests = codedpo_scores(
        view.passed,
        damping=view.damping,
        sweeps=view.sweeps,
        code_weights=view.code_weights,
        test_weights=view.test_weights,
    )
    return ranking(
        codes, "ordinal", test_scores=tests, floor=0.0, damping=view.damping, sweeps=float(view.sweeps)
    )
