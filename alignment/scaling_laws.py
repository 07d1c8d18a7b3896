"""How gold reward rises and falls with distance from the first policy (Gao et al. 2022, arXiv 2210.10760).

With d = sqrt(KL): best-of-n follows R = d (a - b d), RL R = d (a - b ln d), where R(0) = 0. Reading: a is how
well the proxy points the right way, b how it misleads far out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from codegen_eval.errors import CodealignError, unknown

Form = Literal["bon", "rl"]


@dataclass(frozen=True, slots=True)
class Law:
    """A fitted law; `residual` is the root mean square of what it leaves, in the reward's unit."""

    form: Form
    a: float
    b: float
    residual: float

    def __call__(self, d: ArrayLike) -> np.ndarray:
        """The reward at distance d = sqrt(KL), of d's shape."""
        d = np.asarray(d, dtype=np.float64)
        return self.a * d - self.b * (d**2 if self.form == "bon" else xlogy(d, d))

    @property
    def peak(self) -> tuple[float, float] | None:
        """Distance and reward of the maximum; None for a law that never falls (or never rises)."""
        if self.b <= 0 or (self.form == "bon" and self.a <= 0):
            return None
        if self.form == "bon":
            return self.a / (2 * self.b), self.a**2 / (4 * self.b)
        exponent = self.a / self.b - 1
        if exponent > math.log(np.finfo(np.float64).max):
            return None
        d = math.exp(exponent)
        return d, self.b * d


def fit_law(d: ArrayLike, reward: ArrayLike, form: Form = "bon") -> Law:
    """Least squares for a and b.

    Args:
        d: Distances sqrt(KL), shape (points,), none negative; a point at 0 tells nothing.
        reward: Gold reward minus that at d = 0.
        form: "bon" or "rl".

    Raises:
        CodealignError: For an unknown form, unequal numbers of points, values that are not finite, or fewer
            than two distinct distances above 0.
    """
    if form not in get_args(Form):
        raise unknown("scaling law", form, get_args(Form))
    x, y = np.asarray(d, dtype=np.float64), np.asarray(reward, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise CodealignError(
            f"a law needs as many finite rewards as distances, got shapes {x.shape} and {y.shape}"
        )
    if np.any(x < 0) or len(np.unique(x[x > 0])) < 2:
        raise CodealignError("a law needs two or more distinct distances above 0, and none below")
    columns = np.stack([x, -(x**2) if form == "bon" else -xlogy(x, x)], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, y, rcond=None)
    residual = float(np.sqrt(np.mean((columns @ (a, b) - y) ** 2)))
    return Law(form, float(a), float(b), residual)
