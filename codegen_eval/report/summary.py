"""Before and after in a few lines: the figures of the headline, for the page and for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen_eval.report.loading import Estimate, EvalResults
from codegen_eval.report.text import percent, points, short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# From `codegen_eval.evaluation.compare`: metric -> before, after, difference and the ends of its interval.
Comparison = Mapping[str, Mapping[str, Any]]
_TITLE = "Before and after (95 % intervals over problems)"
_HEADER = ("", "before", "after", "difference", "95 % interval")


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the headline. `higher_is_better` says which way is good."""

    label: str
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    higher_is_better: bool

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `unsure` where the difference's interval holds 0 (or is not known)."""
        if self.difference is None or self.difference.low is None or self.difference.high is None:
            return "unsure"
        if self.difference.low <= 0 <= self.difference.high:
            return "unsure"
        return "better" if (self.difference.value > 0) == self.higher_is_better else "worse"


def headline(before: EvalResults, after: EvalResults | None, comparison: Comparison | None) -> list[Metric]:
    """The figures of one or two evaluations: pass@k in the order of k, then the slow share.

    Args:
        before: The first evaluation.
        after: The second, if there is one.
        comparison: The paired differences; a metric that it lacks is shown without one.
    """
    differences = {_key(name): row for name, row in (comparison or {}).items()}
    ks = sorted(set(before.pass_at_k) | set(after.pass_at_k if after else ()))
    rows = []
    for k in ks:
        values = (before.pass_at_k.get(k), after.pass_at_k.get(k) if after else None)
        rows.append(Metric(f"pass@{k}", *values, _difference(differences.get(f"pass@{k}")), True))
    slow = (before.slow_share, after.slow_share if after else None)
    if any(slow):
        rows.append(Metric(_label("slow_share"), *slow, _difference(differences.get("slow_share")), False))
    return rows


def metrics_of(comparison: Comparison) -> list[Metric]:
    """The same figures from the comparison alone, which has an interval for the difference only."""
    return [
        Metric(
            _label(_key(name)),
            _estimate(row.get("before")),
            _estimate(row.get("after")),
            _difference(row),
            _key(name) != "slow_share",
        )
        for name, row in comparison.items()
    ]


def change_counts(before: EvalResults, after: EvalResults) -> tuple[int, int, int]:
    """How many problems have a higher, a lower, the same share of right programs after; common ones only."""
    shares = {p.task_id: p.share for p in before.problems}
    changes = [p.share - shares[p.task_id] for p in after.problems if p.task_id in shares]
    better = sum(change > 1e-12 for change in changes)
    worse = sum(change < -1e-12 for change in changes)
    return better, worse, len(changes) - better - worse


def before_after_table(comparison: Comparison) -> Table:
    """The comparison as a table for the terminal: shares in per cent, differences in points."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=_TITLE, title_justify="left", title_style="bold")
    for position, name in enumerate(_HEADER):
        table.add_column(name, justify="right" if position else "left", no_wrap=True)
    styles = {"better": "bold green", "worse": "bold red", "unsure": ""}
    for metric in metrics_of(comparison):
        # Text objects, not strings: a metric's name is no markup.
        label, *figures = (Text(cell) for cell in _cells(metric))
        figures[2].stylize(styles[metric.verdict])
        table.add_row(label, *figures)
    return table


def before_after_text(comparison: Comparison) -> str:
    """The same table in ASCII, for logs and pipes of any encoding; ends with a line break."""
    rows = [_HEADER, *(tuple(map(_ascii, _cells(metric))) for metric in metrics_of(comparison))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs)
        ).rstrip()
        for pairs in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([_TITLE, *lines]) + "\n"


def show(comparison: Comparison, console: Console) -> None:
    """Prints the table to a terminal, its plain form to anything else."""
    if console.is_terminal:
        console.print(before_after_table(comparison))
    else:
        console.file.write(before_after_text(comparison))


def _cells(metric: Metric) -> tuple[str, ...]:
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
    )


def _ascii(cell: str) -> str:
    typewriter = cell.translate({0x202F: " ", 0x2212: "-", 0x2013: "-"})
    return typewriter.encode("ascii", "backslashreplace").decode()


def _key(name: str) -> str:
    """One spelling of a metric's name: pass@1, pass_at_1 -> pass@1."""
    match = re.fullmatch(r"pass(?:@|_at_)(\d+)", name)
    return f"pass@{match[1]}" if match else name


def _label(key: str) -> str:
    return "slow among right" if key == "slow_share" else short(key, 40)


def _estimate(value: Any) -> Estimate | None:
    if value is None:
        return None
    return Estimate.model_validate(value) if isinstance(value, Mapping) else Estimate(value=value)


def _difference(row: Mapping[str, Any] | None) -> Estimate | None:
    if row is None or row.get("difference") is None:
        return None
    return Estimate(value=row["difference"], low=row.get("low"), high=row.get("high"))
