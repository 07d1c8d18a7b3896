"""Tables, figures and the documentation page of B4's simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.studies.figures import svg_file
from codegen_eval.errors import CodealignError

Figure = Callable[[Path], None]
BEGIN, END = "<!-- results of codealign reproduce b4 -->", "<!-- end of results -->"
LABELS = {
    "random": "random",
    "maxpass": "MaxPass",
    "mbr_exec": "MBR-exec",
    "codet": "CodeT",
    "b4": "B4",
    "codedpo": "CodeDPO",
}
# What the authors' strategies give on the authors' model, 17,837 trials.
EXPECTED = {"random": 0.224, "maxpass": 0.591, "mbr_exec": 0.726, "codet": 0.824, "b4": 0.986}
_COLOURS = ("#7f7f7f", "#c49a00", "#2a7f9e", "#7a5195", "#c0392b", "#3a8f3a")
_MARKERS = ("x", "s", "^", "v", "D", "o")


def deviation(of: Mapping[str, float], expected: float) -> float:
    """How many of its standard errors a mean success is from the expected figure."""
    return (of["success"] - expected) / of["error"] if of["error"] else 0.0


def tables(results: Mapping[str, Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the default setting against the authors' figures, all settings, and the calibration."""
    default = results["default"]
    lines = [
        f"Default setting, {default['trials']:,} trials:",
        "",
        "| ranker | success | standard error | authors' code | difference, in standard errors |",
        "|---|---|---|---|---|",
    ]
    for name, expected in EXPECTED.items():
        of = default[name]
        lines.append(
            f"| {LABELS[name]} | {of['success']:.4f} | {of['error']:.4f} | {expected:.3f} | "
            f"{deviation(of, expected):+.1f} |"
        )
    lines += ["", "All settings:", ""]
    lines.append(f"| setting | trials | {' | '.join(LABELS.values())} |")
    lines.append("|---" * (2 + len(LABELS)) + "|")
    for setting, of in results.items():
        cells = " | ".join(f"{of[name]['success']:.3f}" for name in LABELS)
        lines.append(f"| {setting} | {of['trials']} | {cells} |")
    lines += [
        "",
        "Calibration (expected calibration error, and pairs):",
        "",
        "| matrices | posterior | a | b | chosen is right | the order is right |",
        "|---|---|---|---|---|---|",
    ]
    for row in curves:
        cells = " | ".join(
            f"{row[key]['error']:.4f} ({row[key]['pairs']:,})" for key in ("probability", "confidence")
        )
        lines.append(
            f"| {row['setting']} | {row['name']} | {row['alpha_xy']:.3g} | {row['beta_0']:.3g} | {cells} |"
        )
    lines += [
        "",
        "Observed share where chosen is right, by prediction (programs, fitted):",
        "",
        "| matrices | posterior | predicted | observed | standard error | pairs |",
        "|---|---|---|---|---|---|",
    ]
    for row in curves:
        if row["name"] != "programs, fitted":  # the others are in results.json and in the figure
            continue
        for predicted, observed, count, error in row["probability"]["bins"]:
            lines.append(
                f"| {row['setting']} | {row['name']} | {predicted:.3f} | {observed:.3f} | {error:.3f} "
                f"| {count} |"
            )
    return "\n".join(lines) + "\n"


def plot_settings(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Success of every ranker in every setting, best settings for B4 on top."""
    names = list(results)
    with svg_file(path, 7.6, 0.34 * len(names) + 1.2) as (axes,):
        for (ranker, label), colour, marker in zip(LABELS.items(), _COLOURS, _MARKERS, strict=True):
            axes.plot(
                [results[name][ranker]["success"] for name in names],
                range(len(names)),
                linestyle="none",
                marker=marker,
                color=colour,
                label=label,
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel("share of right programs among the best-ranked ones")
        axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0 + 0.9 / len(names)), ncols=6, fontsize=9)


def plot_reliability(curves: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Predicted against observed: the chosen program is right, by setting; bars are two standard errors."""
    settings = list(dict.fromkeys(row["setting"] for row in curves))
    with svg_file(path, 4.0 * len(settings), 3.9, columns=len(settings)) as plots:
        for axes, setting in zip(plots, settings, strict=True):
            axes.plot([0, 1], [0, 1], color="#7f7f7f", linewidth=1, dashes=(4, 3))
            of = [row for row in curves if row["setting"] == setting]
            for row, colour, marker in zip(
                of, ("#2a7f9e", "#c49a00", "#c0392b"), ("o", "s", "D"), strict=True
            ):
                predicted, observed, _, error = zip(*row["probability"]["bins"], strict=True)
                label = f"{row['name']}: a={row['alpha_xy']:.3g}, b={row['beta_0']:.3g}"
                axes.errorbar(
                    predicted, observed, yerr=[2 * e for e in error], color=colour, marker=marker,
                    markersize=4, linewidth=1.2, capsize=2, label=label,
                )  # fmt: skip
            axes.set_title(setting, fontsize=10)
            axes.set_xlabel("predicted probability that chosen is right")
            axes.set_ylabel("observed share")
            axes.legend(fontsize=8, loc="upper left")


def write_page(page: Path, text: str) -> None:
    """Replaces what stands between the marks of a Markdown page.

    Raises:
        CodealignError: The page lacks a mark.
    """
    content = page.read_text(encoding="utf-8")
    if content.count(BEGIN) != 1 or content.count(END) != 1:
        raise CodealignError(f"{page} needs the lines {BEGIN!r} and {END!r} once each; nothing was written")
    before, rest = content.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
