"""Before and after in a few lines: the figures of the headline, for the page and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen_eval.report.text import percent, points, short
from codegen_eval.results import Estimate, EvalResults

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# From `codegen_eval.comparison.compare`: metric -> before, after, difference and the ends of its interval.
Comparison = Mapping[str, Mapping[str, Any]]
_NAMES = ("before", "after")


@dataclass(frozen=True, slots=True)
class Tested:
    """The paired test of a difference: its p value, and the problems that got better, worse, or neither."""

    p_value: float
    better: int
    worse: int
    same: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the headline. `higher_is_better` says which way is good."""

    label: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    higher_is_better: bool
    tested: Tested | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `unsure` where the difference's interval holds 0 (or is not known)."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return "unsure"
        if self.difference.low <= 0 <= self.difference.high:
            return "unsure"
        return "better" if (self.difference.value > 0) == self.higher_is_better else "worse"


def headline(before: EvalResults, after: EvalResults | None, comparison: Comparison | None) -> list[Metric]:
    """The figures of one or two evaluations: pass@k and eff@k in the order of k, then the slow share.

    Args:
        before: The first evaluation.
        after: The second, if there is one.
        comparison: The paired differences; a metric that it lacks is shown without one.
    """
    rows = {_key(name): row for name, row in (comparison or {}).items()}
    sides = [before] + ([after] if after else [])
    metrics = []
    for name in ("pass", "eff"):
        figures = [getattr(side, f"{name}_at_k") or {} for side in sides]
        for k in sorted(set().union(*figures)):
            values = [of.get(k) for of in figures] + [None]
            row = rows.get(f"{name}@{k}")
            metrics.append(Metric(f"{name}@{k}", values[0], values[1], _difference(row), True, _tested(row)))
    slow = (before.slow_share, after.slow_share if after else None)
    if any(slow):
        row = rows.get("slow_share")
        metrics.append(Metric(label("slow_share"), *slow, _difference(row), False, _tested(row, False)))
    return metrics


def metrics_of(comparison: Comparison) -> list[Metric]:
    """The same figures from the comparison alone, which has an interval for the difference only."""
    metrics = []
    for name, row in comparison.items():
        higher = _key(name) != "slow_share"
        sides = (_estimate(row.get("before")), _estimate(row.get("after")))
        metrics.append(Metric(label(name), *sides, _difference(row), higher, _tested(row, higher)))
    return metrics


def change_counts(before: EvalResults, after: EvalResults) -> tuple[int, int, int]:
    """How many problems have a higher, a lower, the same share of right programs after; common ones only."""
    shares = {p.task_id: p.share for p in before.problems}
    changes = [p.share - shares[p.task_id] for p in after.problems if p.task_id in shares]
    better = sum(change > 1e-12 for change in changes)
    worse = sum(change < -1e-12 for change in changes)
    return better, worse, len(changes) - better - worse


def before_after_table(
    comparison: Comparison, names: tuple[str, str] = _NAMES, *, tests: bool = False
) -> Table:
    """The comparison as a table for the terminal: shares in per cent, differences in points.

    Args:
        comparison: From `codegen_eval.comparison.compare`.
        names: What the two sides are called.
        tests: Show the p value and the problems that changed as well.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=_title(names), title_justify="left", title_style="bold")
    for position, name in enumerate(_header(names, tests)):
        table.add_column(name, justify="right" if position else "left", no_wrap=True)
    styles = {"better": "bold green", "worse": "bold red", "unsure": ""}
    for metric in metrics_of(comparison):
        # Text objects, not strings: a metric's name is no markup.
        label, *figures = (Text(cell) for cell in _cells(metric, tests))
        figures[2].stylize(styles[metric.verdict])
        table.add_row(label, *figures)
    return table


def before_after_text(comparison: Comparison, names: tuple[str, str] = _NAMES, *, tests: bool = False) -> str:
    """The same table in ASCII, for logs and pipes of any encoding; ends with a line break."""
    rows = [
        _header(names, tests),
        *(tuple(map(_ascii, _cells(metric, tests))) for metric in metrics_of(comparison)),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([_title(names), *lines]) + "\n"


def show(
    comparison: Comparison, console: Console, names: tuple[str, str] = _NAMES, *, tests: bool = False
) -> None:
    """Prints the table to a terminal, its plain form to anything else."""
    if console.is_terminal:
        console.print(before_after_table(comparison, names, tests=tests))
    else:
        console.file.write(before_after_text(comparison, names, tests=tests))


def label(name: str) -> str:
    """What a figure is called for people."""
    return "slow among right" if name == "slow_share" else short(_key(name), 40)


def p_text(p_value: float) -> str:
    """A p value with three digits after the point: 0.0123 -> '0.012', 0.0001 -> '< 0.001'."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _title(names: tuple[str, str]) -> str:
    return f"{names[0].capitalize()} and {names[1]} (95 % intervals over problems)"


def _header(names: tuple[str, str], tests: bool) -> tuple[str, ...]:
    return ("", *names, "difference", "95 % interval", *(("p", "better/worse/same") if tests else ()))


def _cells(metric: Metric, tests: bool) -> tuple[str, ...]:
    difference = metric.difference
    interval = "–"
    if difference is not None and difference.low is not None:
        interval = f"{points(difference.low)} to {points(difference.high)}"
    return (
        metric.label,
        percent(metric.before.value if metric.before else None),
        percent(metric.after.value if metric.after else None),
        points(difference.value if difference else None),
        interval,
        *(_test_cells(metric.tested) if tests else ()),
    )


def _test_cells(tested: Tested | None) -> tuple[str, str]:
    if tested is None:
        return "–", "–"
    return p_text(tested.p_value), f"{tested.better}/{tested.worse}/{tested.same}"


def _ascii(cell: str) -> str:
    typewriter = cell.translate({0x202F: " ", 0x2212: "-", 0x2013: "-"})
    return typewriter.encode("ascii", "backslashreplace").decode()


def _key(name: str) -> str:
    """One spelling of a metric's name: pass@1, pass_at_1 -> pass@1."""
    match = re.fullmatch(r"(pass|eff)(?:@|_at_)(\d+)", name)
    return f"{match[1]}@{match[2]}" if match else name


def _estimate(value: Any) -> Estimate | None:
    if value is None:
        return None
    return Estimate.model_validate(value) if isinstance(value, Mapping) else Estimate(value=value)


def _difference(row: Mapping[str, Any] | None) -> Estimate | None:
    if row is None or row.get("difference") is None:
        return None
    return Estimate(value=row["difference"], low=row.get("low"), high=row.get("high"))


def _tested(row: Mapping[str, Any] | None, higher_is_better: bool = True) -> Tested | None:
    if row is None or row.get("p_value") is None:
        return None
    better, worse = row["higher"], row["lower"]
    if not higher_is_better:
        better, worse = worse, better
    return Tested(row["p_value"], better, worse, row["same"])
