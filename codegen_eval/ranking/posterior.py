"""The probability that each program and each test is right, in B4's model (arXiv 2409.08692), exactly.

B4 scores whole consensus sets: all programs with one row are right, or none. That is enough for choosing, but
not for a probability: where few tests are right, wrong programs share the right ones' row by chance. Here a
hypothesis is any non-empty subset of a consensus set: m of its n programs are right, and the others pass
exactly the right tests by accident. With the same priors its likelihood has the same closed form, so that

    P(program right) = sum over m of (m / n) C(n, m) L(set, m) / Z,    Z = sum over all sets and m

It holds given that some program is right; that none is, the matrix cannot tell. Every distinct program and
test counts once, whatever `weights` says: equal texts are right or wrong together. The probabilities are
calibrated as far as the hyper-parameters fit: `calibration.fit_hyperparameters` finds some without labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from codegen_eval.ranking.b4 import SetCounts, count_sets, default_hyperparameters
from codegen_eval.ranking.common import (
    RANKERS,
    FloatArray,
    Ranking,
    View,
    consensus_sets,
    positive,
    ranking,
)


@dataclass(frozen=True, slots=True)
class Hypotheses:
    """All (set, m): `log_joint` is the log of how probable each is together with the matrix, binomial factor
    included, up to what the hyper-parameters alone decide; all (hypotheses,).
    """

    set_of: NDArray[np.intp]
    right: FloatArray
    log_joint: FloatArray


def hypotheses(counts: SetCounts, alpha_xy: float, beta_0: float) -> Hypotheses:
    """The hypotheses of a matrix; sizes of sets must be whole numbers.

    Raises:
        CodealignError: A hyper-parameter that is not finite and positive.
    """
    alpha, beta = positive("alpha_xy", alpha_xy), positive("beta_0", beta_0)
    sizes = counts.size.astype(np.intp)
    of = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    m = (np.arange(len(of)) - starts[of] + 1).astype(np.float64)
    n, k, e1, e0 = counts.size[of], counts.k[of], counts.e1[of], counts.e0[of]
    accidental = (n - m) * k
    log_joint = (
        gammaln(n + 1)
        - gammaln(m + 1)
        - gammaln(n - m + 1)
        + betaln(k + alpha, counts.tests - k + 1)
        + betaln(m + alpha, counts.codes - m + 1)
        + betaln(e1 + accidental + 1, counts.m1[of] - e1 + 1)
        + betaln(e0 + 1, counts.m0[of] + (n - m) * (counts.tests - k) - e0 + beta)
    )
    return Hypotheses(of, m, log_joint)


def probabilities(counts: SetCounts, alpha_xy: float, beta_0: float) -> tuple[FloatArray, FloatArray]:
    """For each set (sets,): the probability that one of its programs is right, and that its row marks the
    right tests; the second sums to 1.
    """
    found = hypotheses(counts, alpha_xy, beta_0)
    joint = np.exp(found.log_joint - found.log_joint.max(initial=-np.inf))
    joint /= max(float(joint.sum()), np.finfo(np.float64).tiny)
    rows = np.bincount(found.set_of, weights=joint, minlength=len(counts.size))
    share = np.bincount(found.set_of, weights=joint * found.right, minlength=len(counts.size))
    return np.minimum(share / np.maximum(counts.size, 1), 1.0), rows.astype(np.float64)


@RANKERS.register("posterior")
def posterior(view: View) -> Ranking:
    """Score of a program: log probability that it is right; of a test: probability that it is right."""
    codes, tests = view.passed.shape
    default = default_hyperparameters(codes, tests)
    alpha_xy = default[0] if view.alpha_xy is None else view.alpha_xy
    beta_0 = default[1] if view.beta_0 is None else view.beta_0
    sets = consensus_sets(view.passed)
    right, rows = probabilities(count_sets(sets, np.ones(codes), np.ones(tests)), alpha_xy, beta_0)
    scores = np.log(np.maximum(right, np.finfo(np.float64).tiny))
    return ranking(
        scores[sets.set_of],
        "log_probability",
        test_scores=rows @ sets.rows,
        alpha_xy=alpha_xy,
        beta_0=beta_0,
    )
