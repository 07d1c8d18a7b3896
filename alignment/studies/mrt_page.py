"""Tables and figures of the MRT study, from the rows of its arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment.studies.figures import svg_file
from alignment.studies.mrt_arms import ARMS, GRID
from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"
CLAIMED = (15.0, 21.0, 30.0)
"""Budgets of the claim."""
AGAINST = {
    "star-shortest": "star",
    "mrt-star": "star",
    "mrt-star-progress": "star",
    "mrt-rl": "rl",
    "mrt-rl-mixed": "rl",
    "mrt-rl-termination": "rl",
}
"""What each arm is compared with: training by outcome of the same kind."""
_COLOURS = {
    "base": "#777777",
    "star": "#c2571a",
    "star-shortest": "#d9a441",
    "mrt-star": "#1f5fa8",
    "mrt-star-progress": "#63a2e0",
    "rl": "#8a3b8f",
    "mrt-rl": "#1c8a6b",
    "mrt-rl-mixed": "#5fb89d",
    "mrt-rl-termination": "#9bbf3b",
}
Results = dict[str, Any]


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds with its t interval; NaN ends for fewer than two.

    Raises:
        CodealignError: For no seeds.
    """
    from scipy import stats

    values = np.asarray(differences, dtype=np.float64)
    if not values.size:
        raise CodealignError("an interval needs at least one seed")
    mean = float(values.mean())
    if values.size < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size))
    return mean, mean - half, mean + half


def results_of(rows: Sequence[dict[str, Any]], budgets: Sequence[float]) -> Results:
    """Means by arm, and differences to the arm trained by outcome, paired by seed, with their intervals."""
    arms = {arm: {row["seed"]: row for row in rows if row["arm"] == arm} for arm in ARMS}
    arms = {arm: of for arm, of in arms.items() if of}
    keys = [str(float(budget)) for budget in budgets]
    means: Results = {}
    for arm, of in arms.items():
        means[arm] = {
            "seeds": sorted(of),
            **{
                name: float(np.mean([row[name] for row in of.values()]))
                for name in ("accuracy", "episodes", "tokens", "trace_tokens", "stop_tokens")
            },
            **{
                name: np.mean([row[name] for row in of.values()], axis=0).tolist()
                for name in ("j", "j_beyond", "accuracy_at", "episode_regret")
            },
            **{
                name: {key: float(np.mean([row[name][key] for row in of.values()])) for key in keys}
                for name in ("regret", "regret_beyond")
            },
            "regret_by_seed": {key: {str(s): of[s]["regret"][key] for s in sorted(of)} for key in keys},
        }
    differences: Results = {}
    for arm, other in AGAINST.items():
        if arm in arms and other in arms:
            shared = sorted(set(arms[arm]) & set(arms[other]))
            differences[arm] = {"against": other, "seeds": shared}
            for key in keys:
                found = [arms[arm][s]["regret"][key] - arms[other][s]["regret"][key] for s in shared]
                differences[arm][key] = [*interval(found), *found]
            found = [arms[arm][s]["accuracy"] - arms[other][s]["accuracy"] for s in shared]
            differences[arm]["accuracy"] = [*interval(found), *found]
    return {"grid": GRID, "budgets": [float(b) for b in budgets], "arms": means, "differences": differences}


def holds(results: Results, arm: str = "mrt-star") -> dict[str, bool]:
    """The claim by budget: regret below that of training by outcome, the whole interval below 0."""
    found = results["differences"].get(arm, {})
    return {
        f"{arm} has less regret than {found['against']} at {budget:g} tokens": bool(
            found[str(budget)][0] < 0 and not found[str(budget)][2] >= 0
        )
        for budget in CLAIMED
        if found
    }


def table(results: Results) -> str:
    """Results in Markdown: regret and more by arm, differences with intervals, the claim."""
    budgets = results["budgets"]
    seeds = {len(of["seeds"]) for of in results["arms"].values()}
    lines = [
        f"Means over seeds ({', '.join(map(str, sorted(seeds)))} by arm); regret by budget of tokens:",
        "",
    ]
    lines.append(
        "| arm | seeds | accuracy | episodes | tokens | "
        + " | ".join(f"regret at {b:g}" for b in budgets)
        + " | tokens in traces | in stops |"
    )
    lines.append("|---" * (7 + len(budgets)) + "|")
    for arm, of in results["arms"].items():
        regrets = " | ".join(f"{of['regret'][str(b)]:.3f}" for b in budgets)
        lines.append(
            f"| {arm} | {len(of['seeds'])} | {of['accuracy']:.3f} | {of['episodes']:.1f} | "
            f"{of['tokens']:.1f} | {regrets} | {of['trace_tokens'] / 1000:.0f} k | "
            f"{of['stop_tokens'] / 1000:.0f} k |"
        )
    lines += ["", "Differences by seed to training by outcome, with 95 % t intervals over seeds:", ""]
    lines.append("| arm | against | " + " | ".join(f"regret at {b:g}" for b in CLAIMED) + " | accuracy |")
    lines.append("|---" * (3 + len(CLAIMED)) + "|")
    for arm, found in results["differences"].items():
        cells = [_difference(found[str(b)]) for b in CLAIMED] + [_difference(found["accuracy"])]
        lines.append(f"| {arm} | {found['against']} | " + " | ".join(cells) + " |")
    lines += ["", "Regret when thinking is made to go on behind its natural end:", ""]
    lines.append("| arm | " + " | ".join(f"at {b:g}" for b in budgets) + " |")
    lines.append("|---" * (1 + len(budgets)) + "|")
    for arm, of in results["arms"].items():
        lines.append(f"| {arm} | " + " | ".join(f"{of['regret_beyond'][str(b)]:.3f}" for b in budgets) + " |")
    claims = {**holds(results), **holds(results, "mrt-rl")}
    if claims:
        lines += ["", "The claim, whole interval below 0:", ""]
        lines += [f"- {'yes' if held else 'no'}: {claim}" for claim, held in claims.items()]
    return "\n".join(lines) + "\n"


def _difference(values: Sequence[float]) -> str:
    mean, low, high, *by_seed = values
    won = sum(value < 0 for value in by_seed)
    if math.isnan(low):
        return f"{mean:+.3f}"
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}], {won} of {len(by_seed)} below 0"


def draw_all(results: Results, folder: Path) -> None:
    """The figures mrt_j.svg, mrt_regret.svg and mrt_accuracy.svg.

    Raises:
        CodealignError: matplotlib is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arms = results["arms"]

    def lines(ax: Any, name: str, style: str = "-") -> None:
        for arm, of in arms.items():
            ax.plot(GRID, of[name], style, color=_COLOURS[arm], label=arm, lw=1.6)

    with svg_file(folder / "mrt_j.svg", 9.0, 3.6, 2) as (own, beyond):
        lines(own, "j")
        lines(beyond, "j_beyond")
        own.set_title("thinking as long as it lasts")
        beyond.set_title("made to think on")
        for ax in (own, beyond):
            ax.set_xlabel("tokens of thinking")
            ax.set_ylabel("J: right when stopped by force")
            ax.set_ylim(0, 1)
        own.legend(fontsize=8)
    with svg_file(folder / "mrt_regret.svg", 9.0, 3.6, 2) as (by_tokens, by_episodes):
        budgets = results["budgets"]
        for arm, of in arms.items():
            values = np.array([[of["regret_by_seed"][str(b)][str(s)] for s in of["seeds"]] for b in budgets])
            error = values.std(axis=1, ddof=1) / math.sqrt(len(of["seeds"])) if len(of["seeds"]) > 1 else None
            by_tokens.errorbar(
                budgets,
                values.mean(axis=1),
                error,
                color=_COLOURS[arm],
                label=arm,
                lw=1.6,
                capsize=2,
                marker="o",
                ms=3,
            )
            by_episodes.plot(
                range(1, 1 + len(of["episode_regret"])), of["episode_regret"], color=_COLOURS[arm], lw=1.6
            )
        by_tokens.set_xlabel("budget, tokens of thinking")
        by_tokens.set_ylabel("normalised regret")
        by_tokens.legend(fontsize=8)
        by_episodes.set_xlabel("episodes")
        by_episodes.set_ylabel("cumulative regret against an oracle")
    with svg_file(folder / "mrt_accuracy.svg", 5.4, 3.6) as (ax,):
        lines(ax, "accuracy_at")
        ax.set_xlabel("most tokens of thinking")
        ax.set_ylabel("accuracy, stopped there by force")
        ax.set_ylim(0, 1)
        ax.legend(fontsize=8)


def write_page(page: Path, text: str) -> None:
    """Puts the table between the page's marks.

    Raises:
        CodealignError: The page is missing, or does not hold each mark once in order.
    """
    try:
        before = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CodealignError(f"no such page: {page}") from None
    if before.count(BEGIN) != 1 or before.count(END) != 1 or before.index(END) < before.index(BEGIN):
        raise CodealignError(f"{page} must hold {BEGIN} and {END} once each; nothing was written")
    head, rest = before.split(BEGIN)
    tail = rest.split(END)[1]
    write_whole(page, [f"{head}{BEGIN}\n{text}\n{END}{tail}".encode()])
