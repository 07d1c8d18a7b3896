"""Are B4's posteriors probabilities? Pairs of the simulation, predicted against what came true.

Three posteriors: B4's own, over whole sets, with the published hyper-parameters; that over programs
(`ranking/posterior.py`) with the same; and that with hyper-parameters fitted to other trials' matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen_eval.ranking.b4 import SetCounts, log_posterior, normalised
from codegen_eval.ranking.calibration import (
    calibration_error,
    counts_of,
    fit_hyperparameters,
    reliability,
)
from codegen_eval.ranking.common import FloatArray, consensus_sets
from codegen_eval.ranking.posterior import probabilities
from codegen_eval.ranking.simulation import Setting, trials

EDGES = (0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
PUBLISHED = (10.0, 10.0)
MAX_FITTED = 2_000
# With 30 tests B4 is nearly always sure; 8 tests leave cases of every probability.
SETTINGS = {"30 tests": Setting(), "8 tests": Setting(tests=8)}


Posterior = Callable[[SetCounts], FloatArray]


def _over_sets(counts: SetCounts) -> FloatArray:
    return normalised(log_posterior(counts, *PUBLISHED))


def _over_programs(hyper: tuple[float, float]) -> Posterior:
    return lambda counts: probabilities(counts, *hyper)[0]


def _pairs(
    setting: Setting, count: int, rng: np.random.Generator, ways: dict[str, Posterior]
) -> dict[str, dict[str, list[float]]]:
    """For each posterior: of one drawn pair of programs a trial, what was predicted and what was.

    The two programs are drawn from different consensus sets; the more probable one is chosen.
    """
    found: dict[str, dict[str, list[float]]] = {
        name: {"right": [], "chosen": [], "sure": [], "order": []} for name in ways
    }
    for trial in trials(setting, count, rng):
        sets, counts = consensus_sets(trial.passed), counts_of(trial.passed)
        i = int(rng.integers(len(sets.set_of)))
        others = np.flatnonzero(sets.set_of != sets.set_of[i])
        if not len(others):
            continue
        j = int(others[rng.integers(len(others))])
        for name, way in ways.items():
            p = way(counts)[sets.set_of]
            c, r = (i, j) if p[i] >= p[j] else (j, i)
            of = found[name]
            of["right"].append(p[c])
            of["chosen"].append(trial.right[c])
            if trial.right[c] != trial.right[r]:
                of["sure"].append(p[c] / (p[c] + p[r]))
                of["order"].append(trial.right[c])
    return found


def calibration_rows(trial_count: int, seed: int) -> list[dict[str, Any]]:
    """Reliability of the three posteriors of this module's head.

    Args:
        trial_count: Trials of each curve.
        seed: Of the trials; those of the fit are others.

    Returns:
        A row for each setting and posterior: the hyper-parameters, and for `probability` (chosen is
        right) and `confidence` (the order is right, where one of the two is) the bins and the calibration
        error.
    """
    rows = []
    for number, (setting_name, setting) in enumerate(SETTINGS.items()):
        rng = np.random.default_rng([seed, 1, number])
        matrices = [t.passed for t in trials(setting, min(trial_count, MAX_FITTED), rng)]
        fitted = fit_hyperparameters(matrices)
        ways = {
            "sets, published": _over_sets,
            "programs, published": _over_programs(PUBLISHED),
            "programs, fitted": _over_programs(fitted),
        }
        found = _pairs(setting, trial_count, np.random.default_rng([seed, 2, number]), ways)
        for name, of in found.items():
            rows.append(
                {
                    "setting": setting_name,
                    "name": name,
                    "alpha_xy": (fitted if name == "programs, fitted" else PUBLISHED)[0],
                    "beta_0": (fitted if name == "programs, fitted" else PUBLISHED)[1],
                    "probability": _curve(of["right"], of["chosen"]),
                    "confidence": _curve(of["sure"], of["order"]),
                }
            )
    return rows


def _curve(predicted: list[float], outcomes: list[float]) -> dict[str, Any]:
    bins = reliability(np.minimum(predicted, 1.0), outcomes, EDGES)
    return {
        "pairs": len(predicted),
        "error": calibration_error(bins),
        "bins": [[b.predicted, b.observed, b.count, b.error] for b in bins],
    }
