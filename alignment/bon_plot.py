"""Gold reward over the KL of best-of-n, as a file of SVG that stands alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from alignment.bon_curves import Curve
from codegen_eval.errors import CodealignError

# Okabe & Ito's colours: they differ for every kind of colour vision, and the markers differ in grey.
_LOOK = {
    "single": ("#d55e00", "o"),
    "mean": ("#0072b2", "s"),
    "wco": ("#009e73", "^"),
    "uwo": ("#cc79a7", "D"),
}
_NAMES = {"single": "single", "mean": "mean", "wco": "WCO", "uwo": "UWO"}


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that are drawn in one frame, under a heading."""

    heading: str
    curves: Sequence[Curve]


def curves_svg(panels: Sequence[Panel], *, gold: str = "gold reward") -> str:
    """The panels side by side with one scale; equal curves give equal text.

    Args:
        panels: One or more.
        gold: What the vertical axis shows.

    Raises:
        CodealignError: Where matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodealignError(f"plots need matplotlib ({error}): pip install 'codealign[report]'") from None
    settings = {"svg.hashsalt": "bon", "svg.fonttype": "none", "text.parse_math": False, "font.size": 10}
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(4.2 * len(panels) + 0.4, 3.6), layout="constrained")
        frames = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for frame, panel in zip(frames, panels, strict=True):
            for curve in panel.curves:
                color, marker = _LOOK[curve.selector]
                frame.plot(
                    curve.kl, curve.gold, color=color, marker=marker, markersize=4, linewidth=1.6,
                    label=_NAMES[curve.selector],
                )  # fmt: skip
                if curve.low is not None and curve.high is not None:
                    frame.fill_between(curve.kl, curve.low, curve.high, color=color, alpha=0.15, linewidth=0)
            frame.set_title(panel.heading, fontsize=10)
            frame.set_xlabel("KL from the policy, nats: ln n - (n-1)/n")
            frame.grid(color="#dddddd", linewidth=0.6)
            frame.spines[["top", "right"]].set_visible(False)
        frames[0].set_ylabel(gold)
        frames[0].legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
