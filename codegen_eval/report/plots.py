"""The report's figures, drawn once in placeholder colours (see `svg.py`), each with its numbers as a table.

Before and after differ in shape as well as in colour (open circle, filled diamond; pale bar, full bar): the
figures read in grey and with any colour vision.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from codegen_eval.report.canvas import SIDES, Plot, Side, canvas
from codegen_eval.report.svg import AFTER, MUTED, PAPER, WORSE, inline_svg
from codegen_eval.report.text import number, percent, short
from codegen_eval.results import Estimate, EvalResults
from sandbox import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More rows than this make a figure nobody reads; the numbers of all families are in its table.
_MAX_FAMILIES = 60

_CAPTIONS = {
    "pass": "Chance that one of k programs passes the hidden tests",
    "eff": "Expected efficiency of the best of k programs, in which a wrong one counts 0",
}
_AXES = {"pass": "problems solved (%)", "eff": "efficiency (%)"}


def at_k(sides: Sequence[Side], metric: Literal["pass", "eff"]) -> Plot | None:
    """pass@k or eff@k over k with 95 % intervals, before and after; None where no side has it."""
    figures = [getattr(side.results, f"{metric}_at_k") or {} for side in sides]
    ks = sorted(set().union(*figures))
    if not ks:
        return None
    rows: list[tuple[str, ...]] = []
    with canvas(5.4, 3.4) as (figure, axes):
        for i, (side, estimates) in enumerate(zip(sides, figures, strict=True)):
            known = [(x, k, estimates[k]) for x, k in enumerate(ks) if k in estimates]
            if not known:
                continue
            shift = 0.08 * (i - (len(sides) - 1) / 2)
            axes.errorbar(
                [x + shift for x, _, _ in known], [100 * e.value for _, _, e in known],
                yerr=list(zip(*(_reach(e) for _, _, e in known), strict=True)),
                label=side.name, capsize=3, linewidth=1.6, **SIDES[-len(sides) :][i],
            )  # fmt: skip
            rows += [
                (f"{metric}@{k}, {side.name}", percent(e.value), percent(e.low), percent(e.high))
                for _, k, e in known
            ]
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_xlim(-0.5, len(ks) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("k: programs drawn per problem")
        axes.set_ylabel(_AXES[metric])
        axes.set_ylim(bottom=0)
        _legend(axes, len(sides))
        title, caption = f"{metric}@k", f"{_CAPTIONS[metric]}; bars are 95 % intervals over problems."
        svg = inline_svg(figure, f"{metric}k", title, caption)
    return Plot(svg, title, caption, ("metric", "value", "low", "high"), tuple(rows))


def _reach(estimate: Estimate) -> tuple[float, float]:
    """How far the interval goes below and above the value, in points; never negative, as error bars must be.

    A bootstrap interval may leave its own value out by a hair.
    """
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return max(0.0, 100 * (estimate.value - low)), max(0.0, 100 * (high - estimate.value))


def verdicts(sides: Sequence[Side]) -> Plot:
    """Share of the samples by verdict, before and after."""
    import numpy as np

    known = [str(verdict) for verdict in Verdict]
    present = {name for side in sides for name, count in side.results.verdicts.items() if count}
    names = [name for name in known if name in present] + sorted(present - set(known))
    names = names[:16]
    with canvas(5.4, 1.2 + 0.36 * max(3, len(names))) as (figure, axes):
        y = np.arange(len(names))
        shares = []
        for i, side in enumerate(sides):
            total = max(1, sum(side.results.verdicts.values()))
            shares.append([side.results.verdicts.get(name, 0) / total for name in names])
            height = 0.72 / len(sides)
            offset = (i - (len(sides) - 1) / 2) * height
            color = SIDES[-len(sides) :][i]["color"]
            bars = axes.barh(
                y + offset, [100 * s for s in shares[-1]], height=0.9 * height, color=color, label=side.name
            )
            axes.bar_label(bars, [f"{100 * s:.1f}" for s in shares[-1]], padding=3, fontsize=9, color=MUTED)
        axes.set_yticks(y, [short(name.replace("_", " "), 24) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.set_xlabel("share of samples (%)")
        _legend(axes, len(sides))
        title = "What became of the programs"
        caption = "Every sample's verdict in the sandbox, on the hidden tests."
        header = ("verdict", *(f"{side.name}{suffix}" for side in sides for suffix in ("", ", %")))
        rows = tuple((short(name), *_verdict_cells(sides, name)) for name in names)
        return Plot(inline_svg(figure, "verdicts", title, caption), title, caption, header, rows)


def _verdict_cells(sides: Sequence[Side], name: str) -> Iterator[str]:
    """Count and percentage of a verdict, for each side."""
    for side in sides:
        count = side.results.verdicts.get(name, 0)
        yield number(count)
        yield f"{100 * count / max(1, sum(side.results.verdicts.values())):.1f}"


def problems(before: EvalResults, after: EvalResults) -> Plot:
    """Each problem's share of right programs, before against after; a dot's area counts problems."""
    with canvas(5.4, 4.7) as (figure, axes):
        shares = {p.task_id: p.share for p in before.problems}
        spots = Counter(
            (round(shares[p.task_id], 3), round(p.share, 3)) for p in after.problems if p.task_id in shares
        )
        ordered = sorted(spots.items(), key=lambda item: (-item[1], item[0]))
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, dashes=(4, 3))
        for side, color in ((1, AFTER), (-1, WORSE), (0, MUTED)):
            chosen = [(x, y, n) for (x, y), n in ordered if (y > x) - (y < x) == side]
            if chosen:
                xs, ys, ns = zip(*chosen, strict=True)
                axes.scatter(
                    [100 * x for x in xs], [100 * y for y in ys], s=[16 * n for n in ns],
                    color=color, alpha=0.75, linewidths=0.8, edgecolors=PAPER, zorder=3,
                )  # fmt: skip
        axes.set_xlim(-6, 106)
        axes.set_ylim(-6, 106)
        axes.set_aspect("equal")
        axes.set_xlabel("right programs before (%)")
        axes.set_ylabel("right programs after (%)")
        for x, y, text in ((4, 97, "better after"), (96, 1, "worse after")):
            axes.text(x, y, text, color=MUTED, fontsize=10, ha="left" if x < 50 else "right", va="center")
        title = "Problem by problem"
        caption = (
            "A dot's area is the number of problems with these two values. Above the line: better after."
        )
        rows = tuple((percent(x), percent(y), str(n)) for (x, y), n in sorted(spots.items()))
        return Plot(
            inline_svg(figure, "problems", title, caption),
            title,
            caption,
            ("before", "after", "problems"),
            rows,
        )


def families(before: EvalResults, after: EvalResults) -> Plot | None:
    """Mean share of right programs by family, most improved first; None where ids name no families."""
    means = [_family_means(results) for results in (before, after)]
    names = sorted(means[0].keys() & means[1].keys(), key=lambda f: (means[0][f] - means[1][f], f))
    if len(names) < 2:
        return None
    drawn = names
    if len(names) > _MAX_FAMILIES:
        half = _MAX_FAMILIES // 2
        drawn = names[:half] + names[-half:]
    with canvas(5.4, 0.9 + 0.19 * len(drawn)) as (figure, axes):
        ys = range(len(drawn))
        a, b = ([100 * m[f] for f in drawn] for m in means)
        axes.hlines(ys, a, b, color=MUTED, linewidth=1.2, zorder=2)
        for i, values in enumerate((a, b)):
            style = SIDES[i] | {"markersize": 5.5 - i, "markeredgewidth": 1.4}
            axes.plot(values, ys, linestyle="none", label=("before", "after")[i], zorder=3, **style)
        axes.set_yticks(ys, [short(f, 26) for f in drawn], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.set_xlim(-3, 103)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("right programs (%)")
        _legend(axes, 2)
        title = "By problem family"
        caption = "Mean share of right programs, the families that gained most on top."
        if drawn is not names:
            caption += f" The {half} that gained most and least of {len(names)}; the table has all."
        rows = tuple((short(f), percent(means[0][f]), percent(means[1][f])) for f in names)
        return Plot(
            inline_svg(figure, "families", title, caption),
            title,
            caption,
            ("family", "before", "after"),
            rows,
        )


def confidences(by_kind: Mapping[str, Sequence[float]]) -> list[Plot]:
    """One histogram of the pairs' confidence a kind, all over the same range; at most four kinds."""
    import numpy as np

    kinds = [kind for kind in by_kind if by_kind[kind]][:4]
    if not kinds:
        return []
    low = min(0.0, *(min(by_kind[kind]) for kind in kinds), 0.0)
    high = max(1.0, *(max(by_kind[kind]) for kind in kinds), 1.0)
    edges = np.linspace(low, high, 21)
    plots = []
    for i, kind in enumerate(kinds):
        counts, _ = np.histogram(by_kind[kind], edges)
        with canvas(4.2, 2.4) as (figure, axes):
            axes.bar(edges[:-1], counts, width=0.92 * np.diff(edges), align="edge", color=AFTER)
            axes.grid(visible=False, axis="x")
            axes.set_xlabel("confidence")
            axes.set_ylabel("pairs")
            axes.locator_params(axis="y", integer=True)
            title = f"Confidence, {short(kind, 30)} pairs"
            caption = f"{len(by_kind[kind]):,} pairs; {percent(float(np.mean(by_kind[kind])))} on average."
            rows = tuple(
                (f"{edges[j]:.2f} – {edges[j + 1]:.2f}", number(int(count)))
                for j, count in enumerate(counts)
                if count
            )
            svg = inline_svg(figure, f"confidence{i}", title, caption)
            plots.append(Plot(svg, title, caption, ("confidence", "pairs"), rows))
    return plots


def _family_means(results: EvalResults) -> dict[str, float]:
    """Mean share of right samples by the middle part of ids such as `minipy/FAMILY/3`."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for problem in results.problems:
        parts = problem.task_id.split("/")
        if len(parts) >= 3:
            groups[parts[1]].append(problem.share)
    return {family: sum(shares) / len(shares) for family, shares in groups.items()}


def _legend(axes: Axes, sides: int) -> None:
    """A legend above the figure, where there is something to tell apart."""
    if sides > 1:
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=sides, borderaxespad=0.2, handletextpad=0.5
        )
