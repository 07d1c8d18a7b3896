"""Problem by problem: a strip of verdicts for every sample, and some programs beside what they failed.

The strips of all problems make a heat map. A strip is an SVG of its own, one path a verdict, so that 30,000
samples take some hundred kilobytes. Programs are bounded in number and in bytes; what is left out is said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from codegen_eval.report.canvas import Side
from codegen_eval.report.diff import Segment, highlight
from codegen_eval.report.text import excerpt, points, short
from codegen_eval.results import ProblemResult
from sandbox import Verdict

Rows = Sequence[Mapping[str, Any]]

# A page that lists more problems than this is no longer read but searched; results.json has all.
MAX_PROBLEMS = 500
# Beyond this many samples on the page the strips show shares, sorted by verdict, not sample after sample.
MAX_CELLS = 80_000
# Up to this many samples of a problem, the eye can count them: they stand apart.
_APART = 40
# All programs of the page together; shared equally by the problems and their sides.
PROGRAM_BYTES = 3_000_000
# What the template puts around a coloured piece, a line, a sample.
_SEGMENT_BYTES, _LINE_BYTES, _SAMPLE_BYTES = 24, 27, 750
KNOWN = (*map(str, Verdict), "failed")


@dataclass(frozen=True, slots=True)
class Strip:
    """One side's samples of a problem: width in samples, one path a verdict, the counts in words."""

    n: int
    right: int
    paths: tuple[tuple[str, str], ...]
    words: str


@dataclass(frozen=True, slots=True)
class ShownSample:
    """A program and what is known of its failure, ready for the template; `copies` counts equal programs."""

    number: int
    kind: str
    verdict: str
    cause: str
    copies: int
    program: list[tuple[Segment, ...]]
    note: str
    test: str
    test_note: str
    message: str


@dataclass(frozen=True, slots=True)
class Group:
    """One side of a problem: its counts in words, some samples, and what is not shown, in words."""

    name: str
    words: str
    samples: tuple[ShownSample, ...]
    left_out: str


@dataclass(frozen=True, slots=True)
class ShownProblem:
    """A problem of the list.

    Attributes:
        task_id: Its name.
        strips: One a side; None where the side does not have it.
        groups: The shown programs of each side.
        points: Change of the share of right samples, in points.
        kinds: The classes of all verdicts, for the filter.
        state: none, some or all of the last side's samples are right.
        change: better, worse or same.
        share: Of right samples on the last side.
        moved: Change of the share.
    """

    task_id: str
    strips: tuple[Strip | None, ...]
    groups: tuple[Group, ...]
    points: str
    kinds: str
    state: str
    change: str
    share: float
    moved: float


@dataclass(frozen=True, slots=True)
class Explorer:
    """The list of problems and its legend: class, verdict, and how many samples have it on each side."""

    problems: tuple[ShownProblem, ...]
    total: int
    in_order: bool
    legend: tuple[tuple[str, str, tuple[int, ...]], ...]


def explore(sides: Sequence[Side], rows: Sequence[Rows], *, shown: int) -> Explorer:
    """Makes the list: most changed problems first for two sides, else in the order of the results.

    Args:
        sides: One or two evaluations.
        rows: For each side its rows of sample_results.jsonl; empty where there are none: the strips then come
            from the counts, and no program is shown.
        shown: How many distinct programs a problem and side may show.
    """
    of = [{p.task_id: p for p in side.results.problems} for side in sides]
    samples = [_by_task(side_rows) for side_rows in rows]
    ids = list(dict.fromkeys(task_id for side in of for task_id in side))
    moved = {task_id: _moved([side.get(task_id) for side in of]) for task_id in ids}
    if len(sides) > 1:
        ids.sort(key=lambda task_id: (-abs(moved[task_id]), -moved[task_id], task_id))
    total, ids = len(ids), ids[:MAX_PROBLEMS]
    in_order = sum(side[t].n for side in of for t in ids if t in side) <= MAX_CELLS
    allowance = PROGRAM_BYTES // max(1, len(ids) * len(sides))
    problems = []
    for task_id in ids:
        results = [side.get(task_id) for side in of]
        own = [by_task.get(task_id, []) for by_task in samples]
        strips = tuple(_strip(r, s, in_order) if r else None for r, s in zip(results, own, strict=True))
        groups = tuple(
            _group(side.name, strip.words, s, shown, allowance)
            for side, strip, s in zip(sides, strips, own, strict=True)
            if strip
        )
        problems.append(_problem(task_id, results, strips, groups, moved[task_id]))
    return Explorer(tuple(problems), total, in_order, _legend(sides))


def css(verdict: str) -> str:
    """The class of a verdict's colour; a name that nobody knows never becomes a class."""
    return f"v-{verdict}" if verdict in KNOWN else "v-other"


def choose(rows: Rows, count: int) -> list[tuple[Mapping[str, Any], int]]:
    """Rows to show with the number of equal programs: in turn one of each verdict, failures before passes.

    The commoner verdict comes first; of one verdict, the program that was drawn more often, then the lower
    sample number.
    """
    copies: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (str(row["verdict"]), _text(row))
        copies[key] += 1
        first.setdefault(key, row)
    queues: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in sorted(first, key=lambda key: (-copies[key], first[key]["sample"])):
        queues[key[0]].append(key)
    frequency = Counter(str(row["verdict"]) for row in rows)
    order = sorted(queues, key=lambda verdict: (verdict == "passed", -frequency[verdict], verdict))
    chosen: list[tuple[str, str]] = []
    for turn in range(count):
        chosen += [queues[verdict][turn] for verdict in order if turn < len(queues[verdict])]
    return [(first[key], copies[key]) for key in chosen[:count]]


def _legend(sides: Sequence[Side]) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """The verdicts of all sides, the commonest first, at most 16."""
    total: Counter[str] = Counter()
    for side in sides:
        total.update(side.results.verdicts)
    return tuple(
        (css(v), short(v.replace("_", " "), 30), tuple(side.results.verdicts.get(v, 0) for side in sides))
        for v, count in total.most_common(16)
        if count
    )


def _by_task(rows: Rows) -> dict[str, list[Mapping[str, Any]]]:
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        tasks.setdefault(row["task_id"], []).append(row)
    return {task_id: sorted(own, key=lambda row: row["sample"]) for task_id, own in tasks.items()}


def _text(row: Mapping[str, Any]) -> str:
    text = row.get("solution")
    return str(text if text is not None else row.get("completion") or "")


def _moved(results: Sequence[ProblemResult | None]) -> float:
    first, last = results[0], results[-1]
    return last.share - first.share if first and last else 0.0


def _strip(result: ProblemResult, rows: Rows, in_order: bool) -> Strip:
    verdicts = [str(row["verdict"]) for row in rows]
    if not verdicts:
        counts = result.verdicts or {"passed": result.c, "failed": result.n - result.c}
        verdicts = [name for name, count in counts.items() for _ in range(count)]
    tally = Counter(verdicts)
    if not in_order or not rows:
        rank = {name: (name != "passed", -tally[name], name) for name in tally}
        verdicts.sort(key=lambda name: rank[name])
    words = ", ".join(f"{count} {short(name.replace('_', ' '), 30)}" for name, count in tally.most_common(12))
    return Strip(len(verdicts), result.c, tuple(_paths([css(v) for v in verdicts]).items()), words)


def _paths(classes: Sequence[str]) -> dict[str, str]:
    """For each class its samples as horizontal lines of an SVG path: one each with a gap, or runs of many."""
    paths: defaultdict[str, list[str]] = defaultdict(list)
    position = 0
    for name, run in groupby(classes):
        length = sum(1 for _ in run)
        if len(classes) > _APART:
            paths[name].append(f"M{position} .5h{length}")
        else:
            paths[name] += [f"M{position + i} .5h.95" for i in range(length)]
        position += length
    return {name: "".join(parts) for name, parts in paths.items()}


def _group(name: str, words: str, rows: Rows, shown: int, allowance: int) -> Group:
    """The samples that fit into the allowance of bytes, and what does not."""
    chosen = choose(rows, shown)
    samples: list[ShownSample] = []
    for row, copies in chosen:
        sample = _sample(row, copies)
        allowance -= _cost(sample)
        if allowance < 0:
            break
        samples.append(sample)
    distinct = len({(row["verdict"], _text(row)) for row in rows})
    left_out = ""
    if len(samples) < distinct:
        left_out = f"{len(samples)} of {distinct} distinct programs are shown"
        left_out += " (more would make the page too large)" if len(samples) < len(chosen) else ""
    return Group(name, words, tuple(samples), left_out or ("" if rows else "the run keeps no programs"))


def _sample(row: Mapping[str, Any], copies: int) -> ShownSample:
    program = excerpt(_text(row).strip("\n"), characters=2000, lines=50, width=200)
    test = excerpt(str(row.get("failed_test") or "").strip("\n"), characters=1200, lines=20, width=300)
    message = excerpt(str(row.get("message") or "").strip("\n"), characters=600, lines=10, width=300)
    verdict = str(row["verdict"])
    return ShownSample(
        number=int(row["sample"]),
        kind=css(verdict),
        verdict=short(verdict.replace("_", " "), 30),
        cause=short(str(row.get("cause") or ""), 120),
        copies=copies,
        program=highlight(program.text),
        note=program.note,
        test=test.text,
        test_note=test.note,
        message=message.text,
    )


def _cost(sample: ShownSample) -> int:
    """About how many bytes of HTML a sample takes: every character could be an entity of five."""
    pieces = [segment for line in sample.program for segment in line]
    texts = [*(piece.text for piece in pieces), sample.test, sample.message, sample.cause]
    escaped = sum(len(t.encode("utf-8", "replace")) + 4 * sum(map(t.count, "&<>\"'")) for t in texts)
    lines = len(sample.program) + sample.test.count("\n") + sample.message.count("\n") + 2
    coloured = sum(bool(piece.css) for piece in pieces)
    return escaped + _SEGMENT_BYTES * coloured + _LINE_BYTES * lines + _SAMPLE_BYTES


def _problem(
    task_id: str,
    results: Sequence[ProblemResult | None],
    strips: tuple[Strip | None, ...],
    groups: tuple[Group, ...],
    moved: float,
) -> ShownProblem:
    last = next(result for result in reversed(results) if result)
    both = all(results) and len(results) > 1
    kinds = dict.fromkeys(name for strip in strips if strip for name, _ in strip.paths)
    return ShownProblem(
        task_id=short(task_id),
        strips=strips,
        groups=groups,
        points=points(moved if both else None),
        kinds=" ".join(kinds),
        state="all" if last.c == last.n else "some" if last.c else "none",
        change="better" if moved > 1e-12 else "worse" if moved < -1e-12 else "same",
        share=round(last.share, 6),
        moved=round(moved, 6),
    )
