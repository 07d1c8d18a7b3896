"""A pass matrix as an SVG picture: shapes and places only, made of numbers; the template writes the markup.

Three states differ in shape, not only in colour: a passed cell is a full field, a failed one a short dash, an
unknown one a slanted line. Chosen programs have a + before them, rejected ones a −.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from codegen_eval.ranking.common import BoolArray
from codegen_eval.report.arrange import Arrangement, thin

MAX_ROWS, MAX_COLUMNS = 48, 64
# Pixels: a cell's pitch, the gap between groups, the margins with labels.
_CELL, _GAP, _LEFT, _TOP, _RIGHT = 15, 6, 66, 30, 52


@dataclass(frozen=True, slots=True)
class Label:
    """A text of the picture: its place, its class, its anchor (`end`, `middle` or `start`)."""

    x: int
    y: int
    css: str
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Size in pixels, one path a class, labels, how much of the matrix is drawn, and all of it in words."""

    width: int
    height: int
    paths: tuple[tuple[str, str], ...]
    labels: tuple[Label, ...]
    left_out: str
    words: str


def draw(
    passed: BoolArray,
    known: BoolArray,
    order: Arrangement,
    drawn: Sequence[int],
    *,
    chosen: Collection[int] = (),
    rejected: Collection[int] = (),
    examples: Collection[int] = (),
) -> Drawing:
    """Draws a matrix in the order of an arrangement.

    Args:
        passed: (codes, tests).
        known: (codes, tests); a cell that is not known is neither passed nor failed.
        order: Of `passed`.
        drawn: (codes,) how often each program was sampled.
        chosen: Programs that are chosen in a pair.
        rejected: Programs that are rejected in a pair.
        examples: Tests that come from the prompt.
    """
    sets = [*order.sets, *([order.unranked] if order.unranked else [])]
    rows = thin([i for own in sets for i in own], MAX_ROWS, {*chosen, *rejected})
    columns = thin([j for own in (*order.columns, order.left_out) for j in own], MAX_COLUMNS)
    ys = _places(rows, sets, _TOP)
    xs = _places(columns, [*order.columns, order.left_out], _LEFT)
    width = max(xs.values(), default=_LEFT) + _CELL + _RIGHT
    height = max(ys.values(), default=_TOP) + _CELL + 4
    paths: defaultdict[str, list[str]] = defaultdict(list)
    for i in rows:
        for marked, css in ((rejected, "m-rejected"), (chosen, "m-chosen")):
            if i in marked:
                paths[css].append(f"M0 {ys[i]}h{width}v{_CELL}H0z")
    for i in rows:
        for j in columns:
            state = "m-pass" if passed[i, j] else "m-fail" if known[i, j] else "m-unknown"
            paths[state].append(_cell(state, xs[j], ys[i]))
    labels = [*_rows(rows, ys, sets, width, order, drawn, chosen, rejected), *_columns(columns, xs, examples)]
    return Drawing(
        width,
        height,
        tuple((css, "".join(parts)) for css, parts in paths.items()),
        tuple(labels),
        _left_out(len(rows), len(columns), passed.shape),
        _words(passed, known, order, chosen, rejected),
    )


def _places(shown: Sequence[int], groups: Sequence[Sequence[int]], start: int) -> dict[int, int]:
    """The pixel at which each shown item begins; groups stand apart."""
    group_of = {item: number for number, own in enumerate(groups) for item in own}
    places: dict[int, int] = {}
    at, before = start, None
    for item in shown:
        if before is not None and group_of[item] != before:
            at += _GAP
        places[item] = at
        at, before = at + _CELL, group_of[item]
    return places


def _cell(state: str, x: int, y: int) -> str:
    if state == "m-pass":
        return f"M{x + 1} {y + 1}h13v13h-13z"
    return f"M{x + 5} {y + 7.5}h5" if state == "m-fail" else f"M{x + 4} {y + 11}l7-7"


def _rows(
    rows: Sequence[int],
    ys: dict[int, int],
    sets: Sequence[Sequence[int]],
    width: int,
    order: Arrangement,
    drawn: Sequence[int],
    chosen: Collection[int],
    rejected: Collection[int],
) -> list[Label]:
    """Marks, program numbers and how often each was drawn on the left; sets on the right."""
    labels = []
    set_of = {i: number for number, own in enumerate(sets) for i in own}
    named: set[int] = set()
    for i in rows:
        y = ys[i] + 11
        if mark := ("+" if i in chosen else "") + ("−" if i in rejected else ""):
            labels.append(Label(4, y, "m-mark", "start", mark))
        labels.append(Label(38, y, "m-number", "end", str(i + 1)))
        if drawn[i] > 1:
            labels.append(Label(_LEFT - 5, y, "m-small", "end", f"×{drawn[i]}"))
        if set_of[i] not in named:
            named.add(set_of[i])
            text = f"set {set_of[i] + 1}" if set_of[i] < len(order.sets) else "unranked"
            labels.append(Label(width - _RIGHT + 8, y, "m-small", "start", text))
    return labels


def _columns(columns: Sequence[int], xs: dict[int, int], examples: Collection[int]) -> list[Label]:
    """Test numbers, every fifth of many, and a dot over those that the prompt shows."""
    step = 1 if len(columns) <= 32 and max(columns, default=0) < 99 else 5
    labels = []
    for k, j in enumerate(columns):
        middle = xs[j] + 8
        if k % step == 0:
            labels.append(Label(middle, _TOP - 6, "m-small", "middle", str(j + 1)))
        if j in examples:
            labels.append(Label(middle, _TOP - 17, "m-small", "middle", "•"))
    return labels


def _left_out(rows: int, columns: int, shape: tuple[int, ...]) -> str:
    if (rows, columns) == shape:
        return ""
    return (
        f"{rows} of {shape[0]} programs and {columns} of {shape[1]} tests are drawn, evenly chosen; "
        "those of pairs first"
    )


def _words(
    passed: BoolArray,
    known: BoolArray,
    order: Arrangement,
    chosen: Collection[int],
    rejected: Collection[int],
) -> str:
    """What a reader who does not see the picture is told; the table of sets has the rest."""
    right, unknown = int(passed.sum()), int((~known).sum())
    text = (
        f"{passed.shape[0]} programs in {len(order.sets)} sets of equal results on {passed.shape[1]} tests: "
        f"{right} cells passed, {passed.size - right - unknown} failed, {unknown} unknown"
    )
    for name, marked in (("chosen", chosen), ("rejected", rejected)):
        if marked:
            text += f"; {name}: program " + ", ".join(str(i + 1) for i in sorted(marked)[:12])
            text += f" and {len(marked) - 12} more" if len(marked) > 12 else ""
    return text
