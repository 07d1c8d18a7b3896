"""What all figures share: a style of placeholder colours, an empty figure, a figure with its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen_eval.errors import CodealignError
from codegen_eval.report.svg import AFTER, BEFORE, INK, MUTED, PAPER, RULE
from codegen_eval.results import EvalResults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE = {
    "font.size": 10,
    "text.parse_math": False,  # names come from data: a `$` is a `$`
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 10,
}
# Before and after; a single evaluation takes the last.
SIDES: tuple[dict[str, Any], ...] = (
    {"color": BEFORE, "marker": "o", "markerfacecolor": PAPER, "markersize": 7, "markeredgewidth": 1.8},
    {"color": AFTER, "marker": "D", "markerfacecolor": AFTER, "markersize": 6, "markeredgewidth": 1.8},
)


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its caption and its numbers as a table (first column text, the others figures)."""

    svg: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the compared evaluations, under the name that the figures give it."""

    name: str
    results: EvalResults


@contextmanager
def canvas(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure in inches; our style holds inside, whatever the user's settings, and only there."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodealignError(
            f"the report's figures need matplotlib ({error}): pip install 'codealign[report]'"
        ) from None
    with mpl.rc_context(), warnings.catch_warnings():
        # Names in scripts that matplotlib's font lacks: the browser has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()
