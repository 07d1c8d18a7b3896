"""Curves of a training run, from its metrics.jsonl: those of pairs, of reward models, of on-policy training.

A figure holds what is read together (the sampled and the greedy reward; three estimates of one KL). Series of
a figure differ in dashes as well as in colour: they read in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegen_eval.report.canvas import Plot, canvas
from codegen_eval.report.svg import AFTER, BEFORE, INK, WORSE, inline_svg
from codegen_eval.report.text import number

Points = Sequence[tuple[float, float]]
"""(step, value), in the log's order."""

_LOOKS = tuple(zip((AFTER, WORSE, INK, BEFORE), ("-", "--", "-.", ":"), strict=True))


@dataclass(frozen=True, slots=True)
class _Figure:
    """Series that are drawn together: metric -> what it is called."""

    title: str
    caption: str
    series: Mapping[str, str]


_FIGURES = (
    _Figure("Loss", "Loss on the training data; that of DPO starts at ln 2 = 0.693.", {"loss": "loss"}),
    _Figure(
        "Reward margin",
        "How much more the implicit reward gives the chosen program.",
        {"rewards/margins": "margin"},
    ),
    _Figure(
        "Reward accuracy",
        "Share of the pairs in which the chosen program has the higher reward.",
        {"rewards/accuracies": "accuracy"},
    ),
    _Figure(
        "Reward",
        "Of sampled answers, and of the greedy answer where the method draws one. A reward that rises while "
        "right programs do not is being gamed.",
        {"reward/sampled": "sampled", "reward/greedy": "greedy", "ensemble/mean": "mean of the members"},
    ),
    _Figure(
        "Right programs",
        "Sampled answers that pass the tests that are rewarded, and the share of the tests they pass.",
        {"execution/passed": "programs", "execution/tests_passed": "tests"},
    ),
    _Figure(
        "KL from the reference",
        "Summed over an answer's tokens: three estimates of one quantity. k1 may be negative by chance.",
        {"objective/kl": "k1", "objective/kl_k2": "k2", "objective/kl_k3": "k3"},
    ),
    _Figure(
        "Entropy",
        "Of the policy, a token. Falling towards 0, sampled answers become one answer.",
        {"policy/entropy_avg": "entropy"},
    ),
    _Figure("Length", "Tokens of an answer.", {"completions/mean_length": "mean"}),
    _Figure(
        "Gradient norm", "Before clipping. Spikes come before most losses of a run.", {"grad_norm": "norm"}
    ),
    _Figure(
        "Clipped",
        "Share of tokens whose ratio or value was clipped.",
        {"policy/clipfrac_avg": "policy", "val/clipfrac_avg": "value"},
    ),
    _Figure("Value loss", "Of the critic.", {"loss/value_avg": "loss"}),
    _Figure(
        "Explained variance",
        "Of returns by the critic's values: 1 is all, below 0 is worse than their mean.",
        {"val/explained_variance": "share"},
    ),
    _Figure(
        "Disagreement",
        "Variance of the ensemble's members: high where an answer is unlike what they were trained on.",
        {"ensemble/variance": "variance"},
    ),
    _Figure(
        "Answers without a reward",
        "Broken by the sandbox, or forbidden acts: the first are left out, the second count as wrong.",
        {"reward/missing_share": "no reward", "execution/violation": "violations"},
    ),
    _Figure("Waiting for rewards", "Share of a step's time.", {"time/reward_wait_share": "share"}),
)


def training(series: Mapping[str, Points]) -> list[Plot]:
    """A figure for everything that the log holds.

    Args:
        series: Metric -> points, see `loading.load_training`.
    """
    plots = []
    for figure in _FIGURES:
        held = {label: series[name] for name, label in figure.series.items() if series.get(name)}
        if held:
            plots.append(_drawn(figure, held))
    return plots


def _drawn(figure: _Figure, held: Mapping[str, Points]) -> Plot:
    """At most 200 points of a series are drawn, evenly chosen, and 20 tabled."""
    with canvas(4.2, 2.6) as (drawing, axes):
        for (color, dashes), (label, points) in zip(_LOOKS, held.items(), strict=False):
            drawn = _thin(points, 200)
            marker = "D" if len(drawn) < 3 else None
            xs, ys = zip(*drawn, strict=True)
            axes.plot(xs, ys, color=color, linestyle=dashes, linewidth=1.6, marker=marker, label=label)
        axes.set_xlabel("step")
        axes.locator_params(nbins=5)
        if len(held) > 1:
            axes.legend(
                loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(held), borderaxespad=0.2, fontsize=9
            )
        name = "training-" + figure.title.lower().replace(" ", "-")
        return Plot(
            inline_svg(drawing, name, figure.title, figure.caption),
            figure.title,
            figure.caption,
            ("step", *held),
            _rows(list(held.values())),
        )


def _rows(held: Sequence[Points]) -> tuple[tuple[str, ...], ...]:
    """Steps of the first series with the values of all; a step that one of them lacks has an empty cell."""
    values = [dict(points) for points in held]
    return tuple(
        (number(step), *(number(one[step]) if step in one else "" for one in values))
        for step, _ in _thin(held[0], 20)
    )


def _thin(points: Points, most: int) -> list[tuple[float, float]]:
    """At most `most` of the points, evenly chosen, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]
