"""Learning-rate schedules refined from a run's gradient norms (Defazio et al. 2023, arXiv 2310.07831).

Run once, log the norm of every step's gradient, and the best schedule for a run of that kind follows
(algorithm 1): constant norms give linear decay, norms that fall early give a warm-up, norms that rise at the
end a faster end. Written from the paper; the authors' code (CC BY-NC) was not copied. Unverified: the
exponent for Adam with L1 norms, so `power` is an option.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

FloatArray = NDArray[np.float64]
FORMAT = "codealign-schedule-1"
NORMS = "gradient_norms.jsonl"
"""File of a run directory: `step`, `l1`, `l2` of every step's gradient before clipping."""
TAU = 0.1
POWERS = {"sgd": 2.0, "adam": 1.0}
"""Exponent q of w = G^-q: SGD with L2 norms, Adam and its kin with L1 norms."""
FLOOR = 1e-12
MOST = 2001
"""Points that a schedule file keeps."""


def filled(norms: ArrayLike) -> FloatArray:
    """Norms with those interpolated that are zero or not finite; ends take the nearest one.

    Args:
        norms: Of each step, shape (steps,).

    Raises:
        CodealignError: For a negative norm, fewer than two steps, or no usable norm at all.
    """
    values = np.asarray(norms, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise CodealignError(f"a schedule needs the norms of two steps or more (given: shape {values.shape})")
    if (values < 0).any():
        step = int(np.argmax(values < 0))
        raise CodealignError(f"step {step}: the gradient norm is {values[step]}, it cannot be negative")
    usable = np.isfinite(values) & (values > 0)
    if not usable.any():
        raise CodealignError("no step has a finite gradient norm above 0: nothing to refine from")
    steps = np.arange(len(values))
    return np.maximum(np.interp(steps, steps[usable], values[usable]), FLOOR)


def smoothed(norms: FloatArray, tau: float = TAU) -> FloatArray:
    """Running median over a width of tau times the steps, made odd.

    The right end is mirrored over two widths, so that a trend there is not flattened; what lies beyond takes
    the end's value.

    Args:
        norms: Finite, shape (steps,).
        tau: Share of the run, in [0, 1]; 0 smooths nothing.

    Raises:
        CodealignError: For a tau outside [0, 1].
    """
    from scipy.ndimage import median_filter

    if not 0 <= tau <= 1:
        raise CodealignError(f"tau must lie in [0, 1], the share of the run to smooth over (given: {tau})")
    width = 2 * int(tau * len(norms) / 2) + 1
    padded = np.pad(norms, (0, 2 * width), mode="reflect")
    found: FloatArray = median_filter(padded, size=width, mode="nearest")
    return found[: len(norms)]


def refined(norms: FloatArray, power: float) -> FloatArray:
    """The schedule eta_t = w_t * (sum of w over later steps), w = G^-power, with 1 as its maximum.

    Args:
        norms: G, smoothed, all above 0, shape (steps,).
        power: 2 for SGD with L2 norms, 1 for Adam with L1 norms.

    Raises:
        CodealignError: For a power that is not above 0, or a norm that is not.
    """
    if not (math.isfinite(power) and power > 0):
        raise CodealignError(f"power must be above 0: 2 for SGD, 1 for Adam (given: {power})")
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise CodealignError("all norms must be finite and above 0; `filled` mends others")
    # Their geometric mean is the unit, so that no power leaves the range of a float.
    weights = np.exp(-power * (np.log(norms) - np.log(norms).mean()))
    later = np.concatenate([np.cumsum(weights[::-1])[::-1][1:], [0.0]])
    raw = weights * later
    schedule: FloatArray = raw / raw.max()
    return schedule


def factor(schedule: Sequence[float] | FloatArray, step: int, total: int) -> float:
    """The rate's factor at a step of a run of any length: the curve over [0, 1], read at step / total.

    Constant norms give 1 - step / total, the linear decay of transformers, whose last step is 1 / total.
    """
    place = min(max(step / max(total, 1), 0.0), 1.0)
    return float(np.interp(place, np.linspace(0, 1, len(schedule)), schedule))


def resampled(schedule: FloatArray, points: int = MOST) -> FloatArray:
    """The curve at fewer points where it has more."""
    if len(schedule) <= points:
        return schedule
    found: FloatArray = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(schedule)), schedule)
    return found


def save_schedule(path: Path, schedule: FloatArray, **about: Any) -> None:
    """Writes a schedule file: the curve, and what it was made from."""
    content = {"format": FORMAT, **about, "schedule": [float(f"{v:.9g}") for v in resampled(schedule)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, [(json.dumps(content, indent=1) + "\n").encode()])


def load_schedule(path: Path) -> FloatArray:
    """The curve of a schedule file.

    Raises:
        CodealignError: If there is none, or it holds no schedule.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CodealignError(
            f"no such schedule file: {path}; `codealign refine-schedule RUN` makes one"
        ) from None
    except (OSError, ValueError) as error:
        raise CodealignError(f"{path} is no schedule file: {error}") from None
    values = (
        content.get("schedule") if isinstance(content, dict) and content.get("format") == FORMAT else None
    )
    if not isinstance(values, list) or len(values) < 2:
        raise CodealignError(f"{path} is no schedule file; `codealign refine-schedule RUN` makes one")
    if not all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in values):
        raise CodealignError(f"{path}: the factors of a schedule must lie in [0, 1]")
    return np.asarray(values, dtype=np.float64)


def use_schedule(trainer: Any, path: Path) -> None:
    """Has a transformers trainer follow a schedule file instead of its `lr_scheduler_type` and warm-up.

    Raises:
        CodealignError: As `load_schedule`.
    """
    curve = load_schedule(path)

    def create_scheduler(num_training_steps: int, optimizer: Any = None) -> Any:
        from torch.optim.lr_scheduler import LambdaLR

        if trainer.lr_scheduler is None:
            trainer.lr_scheduler = LambdaLR(
                trainer.optimizer if optimizer is None else optimizer,
                lambda step: factor(curve, step, num_training_steps),
            )
        return trainer.lr_scheduler

    trainer.create_scheduler = create_scheduler
