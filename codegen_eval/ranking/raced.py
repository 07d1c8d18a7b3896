"""Problems whose cells were filled adaptively: what each program was asked, and B4's ranking by that alone.

A cell that was not run is unknown, which is not failed. So such a problem is ranked by the programs that were
in the race to its end, over the tests that these met; the others have no score and count where they ran. No
other ranker and no hygiene step knows of unknown cells in that way: they refuse (`rows.MatrixRow.need_full`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen_eval.ranking.adaptive import AdaptiveOptions, Progress, known_scores
from codegen_eval.ranking.b4 import default_hyperparameters
from codegen_eval.ranking.common import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class Race:
    """How far each program of a problem came.

    Attributes:
        asked: bool (codes, tests): the program was to run the test; the sandbox may still have left the cell
            unknown.
        live: bool (codes,): in the race to the end.
        least: Probability of being right under which a program left.
    """

    asked: BoolArray
    live: BoolArray
    least: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: the number of tests that each program met, in the order of the columns."""
        return {
            "met": self.asked.sum(axis=1).tolist(),
            "live": np.flatnonzero(self.live).tolist(),
            "least": self.least,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], codes: int, tests: int) -> Race:
        """The race that `to_json` wrote.

        Raises:
            ValueError: It does not fit a matrix of `codes` x `tests`.
        """
        met = np.asarray(data["met"], dtype=np.intp)
        places = np.asarray(data["live"], dtype=np.intp)
        if met.shape != (codes,) or ((met < 0) | (met > tests)).any():
            raise ValueError(f"race: met has {len(met)} entries up to {met.max(initial=0)}")
        if places.size and not 0 <= places.min() <= places.max() < codes:
            raise ValueError(f"race: live names program {places.max()} of {codes}")
        live = np.zeros(codes, dtype=np.bool_)
        live[places] = True
        return cls(np.arange(tests) < met[:, None], live, float(data["least"]))


def raced_scores(
    passed: BoolArray, race: Race, codes: Sequence[int], alpha_xy: float | None, beta_0: float | None
) -> tuple[dict[int, float], dict[str, float]]:
    """B4's log posterior, up to a constant, of each program that was in the race to the end.

    Args:
        passed: (codes, tests).
        race: How far each program came.
        codes: Programs that take part; the others count nowhere.
        alpha_xy: B4's; None = default for the matrix.
        beta_0: B4's; likewise.

    Returns:
        Scores by program, and the parameters in force.
    """
    aside = np.ones(len(passed), dtype=np.bool_)
    aside[list(codes)] = False
    live = race.live & ~aside
    default = default_hyperparameters(len(codes), passed.shape[1])
    alpha = default[0] if alpha_xy is None else alpha_xy
    beta = default[1] if beta_0 is None else beta_0
    parameters = {"alpha_xy": alpha, "beta_0": beta, "least": race.least}
    if not live.any():
        return {}, parameters
    known = race.asked & ~aside[:, None]
    progress = Progress(passed & known, known, live, int(race.asked[live].sum(axis=1).max()), aside)
    scores: FloatArray = known_scores(progress, AdaptiveOptions(alpha_xy=alpha, beta_0=beta))
    return {int(i): float(scores[i]) for i in np.flatnonzero(live)}, parameters
