"""J curves and regret of thinking, from the results.json of `codealign reproduce mrt`.

Arms differ in dashes and marks as well as in colour: the figures read in grey.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.report.canvas import Plot, canvas
from codegen_eval.report.svg import AFTER, BEFORE, INK, MUTED, WORSE, inline_svg
from codegen_eval.report.text import number, short
from codegen_eval.results import read_object

RESULTS = "results.json"
_MOST = 10
_LOOKS: list[dict[str, Any]] = [
    {"color": color, "linestyle": dashes, "marker": marker}
    for dashes, markers in (("-", "osD^v"), ("--", "Xd<>P"))
    for color, marker in zip((MUTED, BEFORE, AFTER, WORSE, INK), markers, strict=True)
]


@dataclass(frozen=True, slots=True)
class Curve:
    """One arm: J and accuracy at each number of tokens, regret at each budget."""

    name: str
    j: tuple[float, ...]
    accuracy: tuple[float, ...]
    regret: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Thinking:
    """The arms of a study, at most ten.

    Attributes:
        tokens: Where J and accuracy are known.
        budgets: Where regret is.
        curves: One an arm.
    """

    tokens: tuple[float, ...]
    budgets: tuple[float, ...]
    curves: tuple[Curve, ...]


def load_thinking(path: Path) -> Thinking:
    """Reads a study's run directory.

    Raises:
        CodealignError: There is no results.json, or it is none of that study.
    """
    file = path / RESULTS
    found = read_object(file, "the finished directory of `codealign reproduce mrt`")
    try:
        tokens, budgets = _numbers(found["grid"]), _numbers(found["budgets"])
        curves = tuple(
            Curve(
                str(name),
                _numbers(arm["j"], len(tokens)),
                _numbers(arm["accuracy_at"], len(tokens)),
                _numbers([arm["regret"][str(budget)] for budget in budgets]),
            )
            for name, arm in list(found["arms"].items())[:_MOST]
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CodealignError(f"{file} is not of `codealign reproduce mrt`: {error!r}") from None
    return Thinking(tokens, budgets, curves)


def _numbers(values: Any, count: int | None = None) -> tuple[float, ...]:
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise ValueError(f"a list of {count or 'some'} numbers is needed")
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def thinking_plots(thinking: Thinking | None) -> list[Plot]:
    """J by tokens, regret by budget, accuracy by tokens; none without a study."""
    if thinking is None or not thinking.curves:
        return []
    stopped = "share right when stopped by force"
    return [
        _plot(
            "thinking-j",
            "J by tokens of thinking",
            "Chance of a right answer when thinking is stopped there by force.",
            thinking.tokens,
            {curve.name: curve.j for curve in thinking.curves},
            ("tokens of thinking", stopped),
        ),
        _plot(
            "thinking-regret",
            "Regret by budget",
            "One minus the area below J up to the budget, over the budget: lower is better.",
            thinking.budgets,
            {curve.name: curve.regret for curve in thinking.curves},
            ("budget, tokens of thinking", "normalised regret"),
        ),
        _plot(
            "thinking-accuracy",
            "Accuracy by tokens",
            "A trace that ended by itself counts with its own answer, any other is stopped by force.",
            thinking.tokens,
            {curve.name: curve.accuracy for curve in thinking.curves},
            ("most tokens of thinking", "share right"),
        ),
    ]


def _plot(
    name: str,
    title: str,
    caption: str,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
) -> Plot:
    """One figure of a line an arm, with its numbers."""
    with canvas(4.6, 3.2) as (figure, axes):
        every = max(1, len(x) // 7)
        for look, (arm, values) in zip(_LOOKS, lines.items(), strict=False):
            axes.plot(x, values, label=short(arm, 24), linewidth=1.6, markersize=4, markevery=every, **look)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_ylim(0, 1)
        axes.legend(fontsize=8)
        header = (labels[0], *(short(arm, 24) for arm in lines))
        rows = tuple(
            (number(place), *(number(round(values[i], 4)) for values in lines.values()))
            for i, place in enumerate(x)
        )
        return Plot(inline_svg(figure, name, title, caption), title, caption, header, rows)
