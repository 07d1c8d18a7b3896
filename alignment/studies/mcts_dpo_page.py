"""What the study `mcts-dpo` says of its seeds: claims, table, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alignment.studies.figures import svg_file

Rows = Sequence[Mapping[str, Any]]
GAIN = 0.2
"""What every seed must gain over its base, greedy, after the last round."""
LEAD = -0.02
"""What the mean lead over whole answers, greedy, after the last round must not be below."""

_NAMES = {"steps": "step pairs (tree search)", "answers": "pairs of whole answers"}


def scores(rows: Rows, arm: str, kind: str) -> NDArray[np.float64]:
    """Accuracies by seed and round, the base's first: (seeds, rounds + 1)."""
    return np.array([[row["base"][kind], *row[arm][kind]] for row in rows])


def lead(rows: Rows, kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean lead of step pairs by round, base first, and its standard error over seeds (NaN for one seed)."""
    difference = scores(rows, "steps", kind) - scores(rows, "answers", kind)
    count = len(difference)
    error = (
        difference.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(difference.shape[1], np.nan)
    )
    return difference.mean(axis=0), error


def verdicts(rows: Rows) -> dict[str, bool]:
    """The claims; the size of the lead is printed, not claimed."""
    greedy = scores(rows, "steps", "greedy")
    return {
        f"step pairs gain at least {GAIN} over the base in every seed": bool(
            (greedy[:, -1] - greedy[:, 0] >= GAIN).all()
        ),
        f"mean lead over whole answers is not below {LEAD}": bool(lead(rows, "greedy")[0][-1] >= LEAD),
    }


def table(rows: Rows) -> str:
    """The study in Markdown."""
    lines = [
        f"Accuracy by round, mean of {len(rows)} seeds; the lead with its standard error over seeds.",
        "",
    ]
    lines += [
        "| | round | " + " | ".join(_NAMES.values()) + " | lead (s.e.) | seeds ahead |",
        "|---" * 6 + "|",
    ]
    for kind in ("greedy", "sampled"):
        sides = {arm: scores(rows, arm, kind) for arm in _NAMES}
        means, errors = lead(rows, kind)
        for number in range(sides["steps"].shape[1]):
            ahead = int((sides["steps"][:, number] > sides["answers"][:, number]).sum())
            cells = [f"{side[:, number].mean():.3f}" for side in sides.values()]
            gap = f"{means[number]:+.3f} ({errors[number]:.3f})" if number else "-"
            won = f"{ahead} of {len(rows)}" if number else "-"
            lines.append(f"| {kind} | {number or 'base'} | {' | '.join(cells)} | {gap} | {won} |")
    lines += ["", "By seed, greedy: base, then after the last round.", ""]
    lines += [
        "| seed | base | steps | answers | lead | step pairs | answer pairs | tokens: steps | answers |"
    ]
    lines.append("|---" * 9 + "|")
    for row in rows:
        last = [row[arm]["greedy"][-1] for arm in _NAMES]
        pairs = ["/".join(map(str, row[arm]["pairs"])) for arm in _NAMES]
        tokens = [f"{sum(row[arm]['tokens']):,}" for arm in _NAMES]
        numbers = [f"{value:.3f}" for value in (row["base"]["greedy"], *last)]
        cells = [str(row["seed"]), *numbers, f"{last[0] - last[1]:+.3f}", *pairs, *tokens]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"- {'yes' if held else 'NO'}: {claim}" for claim, held in verdicts(rows).items())]
    return "\n".join(lines) + "\n"


def curves(rows: Rows, path: Path) -> None:
    """Accuracy over rounds, greedy and sampled, and the greedy lead, each with one standard error.

    Raises:
        CodealignError: matplotlib is not installed.
    """
    colours = {"steps": "#0b6fb8", "answers": "#b3490a"}
    with svg_file(path, 10.5, 3.4, columns=3) as (greedy, sampled, leads):
        for axes, kind in ((greedy, "greedy"), (sampled, "sampled")):
            for arm, name in _NAMES.items():
                found = scores(rows, arm, kind)
                rounds = np.arange(found.shape[1])
                axes.plot(rounds, found.T, color=colours[arm], alpha=0.25, linewidth=0.8)
                axes.plot(rounds, found.mean(axis=0), color=colours[arm], marker="o", label=name)
            axes.set(title=f"{kind} accuracy", xlabel="round", ylim=(0, 1), xticks=rounds)
        greedy.legend(loc="lower right", fontsize=8)
        for kind, colour in (("greedy", "#1b1f24"), ("sampled", "#98a2b0")):
            means, errors = lead(rows, kind)
            bars = np.nan_to_num(errors[1:])
            leads.errorbar(rounds[1:], means[1:], yerr=bars, color=colour, marker="o", capsize=3, label=kind)
        leads.axhline(0, color="#5b6470", linewidth=0.8)
        leads.set(title="lead of step pairs (± s.e.)", xlabel="round", xticks=rounds[1:])
        leads.legend(fontsize=8)
