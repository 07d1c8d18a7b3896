"""Reliability by hand, and hyper-parameters fitted without labels on the simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.ranking.calibration import (
    calibration_error,
    counts_of,
    fit_hyperparameters,
    log_evidence,
    reliability,
)
from codegen_eval.ranking.common import consensus_sets
from codegen_eval.ranking.posterior import probabilities
from codegen_eval.ranking.simulation import Setting, trials


def test_bins_by_hand() -> None:
    bins = reliability([0.1, 0.2, 0.9, 1.0], [0, 1, 1, 1], [0, 0.5, 1.0])
    assert [(b.predicted, b.observed, b.count) for b in bins] == [
        (pytest.approx(0.15), 0.5, 2),
        (pytest.approx(0.95), 1.0, 2),
    ]
    assert bins[0].error == pytest.approx(math.sqrt(0.25 / 2))
    assert calibration_error(bins) == pytest.approx((2 * 0.35 + 2 * 0.05) / 4)
    assert reliability([0.9], [1], [0, 0.5, 1.0])[0].count == 1
    assert reliability([], [], [0, 1]) == [] and calibration_error([]) == 0.0


@pytest.mark.parametrize(
    ("predicted", "outcomes", "message"),
    [([0.5], [1, 0], "do not fit"), ([1.5], [1], "between 0.0 and 1.0"), ([math.nan], [1], "between")],
)
def test_bad_predictions_are_refused(predicted: list[float], outcomes: list[int], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        reliability(predicted, outcomes, [0, 1])


def test_evidence_sums_to_one_over_all_matrices() -> None:
    """2 x 2: over all 16 matrices, the probability of each given that some program is right."""
    total = 0.0
    for bits in np.ndindex(2, 2, 2, 2):
        total += math.exp(log_evidence(counts_of(np.array(bits).reshape(2, 2)), 0.7, 3.0))
    assert total == pytest.approx(1.0)


@pytest.mark.slow
def test_fitted_probabilities_are_calibrated_where_tests_are_few() -> None:
    setting, rng = Setting(tests=8), np.random.default_rng(11)
    hyper = fit_hyperparameters([t.passed for t in trials(setting, 500, rng)])
    predicted, right = [], []
    for trial in trials(setting, 1500, rng):
        sets, counts = consensus_sets(trial.passed), counts_of(trial.passed)
        predicted += list(probabilities(counts, *hyper)[0][sets.set_of])
        right += list(trial.right)
    edges = np.linspace(0, 1, 11)
    assert calibration_error(reliability(np.minimum(predicted, 1), right, edges)) < 0.03
    published = []
    for trial in trials(setting, 300, np.random.default_rng(12)):
        sets, counts = consensus_sets(trial.passed), counts_of(trial.passed)
        published += list(zip(probabilities(counts, 10, 10)[0][sets.set_of], trial.right, strict=True))
    values, truth = zip(*published, strict=True)
    assert calibration_error(reliability(np.minimum(values, 1), truth, edges)) > 0.06


def test_too_few_matrices_to_fit_are_an_error() -> None:
    with pytest.raises(CodealignError, match=r"19 matrices tell programs apart; .* at least 20"):
        fit_hyperparameters([np.eye(3)] * 19 + [np.ones((3, 3))] * 5)


@pytest.mark.parametrize(
    "options", [{"theta_0": 1.2}, {"theta_y": math.nan}, {"theta_x": 0.0}, {"codes": 1}, {"tests": -1}]
)
def test_settings_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(CodealignError, match=r"give a probability|needs right and wrong programs"):
        Setting(**options)  # type: ignore[arg-type]


def test_right_programs_pass_exactly_the_right_tests() -> None:
    for trial in trials(Setting(), 50, np.random.default_rng(0)):
        assert (trial.passed[trial.right] == trial.right_tests).all()
        assert trial.right.any() and not trial.right.all()
