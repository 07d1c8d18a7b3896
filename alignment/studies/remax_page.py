"""Tables and the figure of the ReMax study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment.studies.figures import svg_file

Rows = Sequence[Mapping[str, Any]]
_NAMES = {
    "reinforce": "REINFORCE, no baseline",
    "remax": "ReMax",
    "ppo1": "PPO, 1 epoch",
    "ppo4": "PPO, 4 epochs",
}
# Okabe & Ito's colours.
_LOOK = {"reinforce": "#d55e00", "remax": "#009e73", "ppo1": "#0072b2", "ppo4": "#cc79a7"}
_ESTIMATORS = {"remax": "ReMax", "batch_mean": "batch mean", "rloo": "RLOO (2 a prompt)"}
_WINDOW = 10


def tables(rows: Rows) -> str:
    """Learning, paired differences, and variances, in Markdown; mean ± standard deviation over seeds."""
    curves = {name: _curves(rows, name) for name in _NAMES}
    seeds = len(next(iter(curves.values())))
    lines = [f"Accuracy without the offset, {seeds} seeds:", ""]
    lines += [
        f"| run | sampled, first {_WINDOW} steps | last {_WINDOW} | whole run | final, sampled | "
        "final, greedy | CPU a step / ReMax | state, MB |",
        "|---" * 8 + "|",
    ]
    cost = _column(rows, "remax", "cpu_seconds").mean()
    for name, label in _NAMES.items():
        curve = curves[name]
        cells = [curve[:, :_WINDOW].mean(1), curve[:, -_WINDOW:].mean(1), curve.mean(1)]
        cells += [_column(rows, name, key) for key in ("final_sampled", "final_greedy")]
        seconds, state = (_column(rows, name, key).mean() for key in ("cpu_seconds", "state_mb"))
        shown = " | ".join(_spread(cell) for cell in cells)
        lines.append(f"| {label} | {shown} | {seconds / cost:.2f} | {state:.2f} |")
    lines += ["", f"Last {_WINDOW} steps, ReMax minus the other on the same seed:", ""]
    ours = curves["remax"][:, -_WINDOW:].mean(1)
    for name, label in _NAMES.items():
        if name != "remax":
            apart = ours - curves[name][:, -_WINDOW:].mean(1)
            lines.append(f"- {label}: {_spread(apart)}, above 0 in {int((apart > 0).sum())} of {seeds}")
    lines += ["", "Gradient variance over that of REINFORCE without baseline (below 1 is better):", ""]
    lines += ["| policy and reward | " + " | ".join(_ESTIMATORS.values()) + " | signal, ReMax | reward |"]
    lines.append("|---" * (3 + len(_ESTIMATORS)) + "|")
    for policy, reward, spreads in _variances(rows):
        ratios = [_spread(_ratio(spreads, "variance", name)) for name in _ESTIMATORS]
        signal = _spread(_ratio(spreads, "signal", "remax"))
        means = [np.mean([spread[key] for spread in spreads]) for key in ("sampled", "greedy")]
        shown = f"{means[0]:.3f}, greedy {means[1]:.3f}"
        lines.append(f"| {policy}, {reward} | {' | '.join(ratios)} | {signal} | {shown} |")
    lines += ["", "signal: squared norm of the mean gradient over its variance, ReMax's over REINFORCE's."]
    return "\n".join(lines) + "\n"


def draw(rows: Rows, path: Path) -> None:
    """Learning curves beside variance ratios, as one file of SVG.

    Raises:
        CodealignError: matplotlib is missing.
    """
    with svg_file(path, 11.0, 4.0, columns=2) as (left, right):
        for name, label in _NAMES.items():
            curve = _smooth(_curves(rows, name))
            mean, error = curve.mean(0), _error(curve)
            steps = np.arange(curve.shape[1]) + _WINDOW
            left.plot(steps, mean, color=_LOOK[name], label=label, linewidth=1.8)
            left.fill_between(steps, mean - error, mean + error, color=_LOOK[name], alpha=0.15, linewidth=0)
        left.set_xlabel(f"step (mean of the last {_WINDOW})")
        left.set_ylabel("accuracy of the samples")
        left.legend()
        places = list(_variances(rows))
        for offset, (name, label) in enumerate(_ESTIMATORS.items()):
            ratios = [_ratio(spreads, "variance", name) for _, _, spreads in places]
            heights = np.arange(len(places)) + 0.25 * (offset - 1)
            right.barh(
                heights,
                [ratio.mean() for ratio in ratios],
                height=0.22,
                xerr=[_error(ratio[:, None])[0] for ratio in ratios],
                color=("#009e73", "#999999", "#0072b2")[offset],
                label=label,
                error_kw={"linewidth": 1},
            )
        right.axvline(1.0, color="black", linewidth=1)
        right.set_yticks(range(len(places)), [f"{policy},\n{reward}" for policy, reward, _ in places])
        right.invert_yaxis()
        right.set_xlabel("gradient variance over REINFORCE's (1: no gain)")
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def _curves(rows: Rows, method: str) -> NDArray[np.float64]:
    """Accuracy (seeds, steps)."""
    return np.array([row["accuracy"] for row in rows if row["method"] == method])


def _column(rows: Rows, method: str, key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows if row["method"] == method])


def _variances(rows: Rows) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """(policy, reward, one spread a seed) in their order."""
    of = [row["spreads"] for row in rows if row["method"] == "variance"]
    return [
        (policy, reward, [spreads[policy][reward] for spreads in of])
        for policy in ("after SFT", "after ReMax", "random network")
        for reward in ("acc + c(x)", "acc + 1", "bare acc")
        if reward in of[0].get(policy, {})
    ]


def _ratio(spreads: Sequence[Mapping[str, Any]], key: str, name: str) -> NDArray[np.float64]:
    return np.array([spread[key][name] / spread[key]["reinforce"] for spread in spreads])


def _smooth(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([np.convolve(curve, np.full(_WINDOW, 1 / _WINDOW), "valid") for curve in curves])


def _error(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error over seeds, (seeds, ...) to (...); 0 for one seed."""
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def _spread(values: NDArray[np.float64]) -> str:
    if len(values) < 2:
        return f"{values.mean():.3f}"
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"
