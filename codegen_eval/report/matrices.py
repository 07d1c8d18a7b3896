"""Reads the matrices behind preference data and makes the ones that the page shows ready for the template.

All matrices are counted; a bounded number is shown: those of the shown pairs first, then others drawn by the
seed, so that problems without a pair are seen as well. Only the shown ones are ever held.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegen_eval.pairs.correctness import unusable
from codegen_eval.pairs.hygiene import sha
from codegen_eval.pairs.posterior import right_probabilities
from codegen_eval.pairs.records import RankedRow, read_ranking_row
from codegen_eval.ranking.rows import MatrixRow, read_matrix_row
from codegen_eval.report.arrange import Arrangement, arrange
from codegen_eval.report.diff import Segment, highlight
from codegen_eval.report.drawing import MAX_COLUMNS, Drawing, draw
from codegen_eval.report.funnel import count_matrix, reason
from codegen_eval.report.loading import PairRef, PairsRun
from codegen_eval.report.text import excerpt, number, percent, short
from codegen_eval.runs import read_jsonl

# All matrices of the page together; beyond it no further one is shown.
MATRIX_BYTES = 2_500_000
_MAX_SETS, _MAX_PROGRAMS, _MAX_PAIRS = 12, 4, 12


@dataclass(frozen=True, slots=True)
class ShownSet:
    """A row of the table of sets; numbers as text."""

    name: str
    programs: str
    drawn: str
    passes: str
    score: str
    probability: str
    marks: str


@dataclass(frozen=True, slots=True)
class ShownProgram:
    """The most drawn program of a set."""

    name: str
    lines: list[tuple[Segment, ...]]
    note: str


@dataclass(frozen=True, slots=True)
class ShownTest:
    """A test: its number, where it came from, how many of the ranked programs pass it, its text."""

    number: int
    source: str
    passes: str
    text: str


@dataclass(frozen=True, slots=True)
class ShownMatrix:
    """A matrix ready for the template.

    Attributes:
        place: Row number in matrices.jsonl; part of the element's id.
        summary: What the closed form says.
        pairs: Each pair in words, with the number of its row in pairs.jsonl.
        why_none: Why the problem has no pair; empty where it has some.
        more: What is not shown of sets and tests, in words.
        bytes: About how much of the page it takes.
    """

    place: int
    task_id: str
    summary: str
    drawing: Drawing
    sets: tuple[ShownSet, ...]
    programs: tuple[ShownProgram, ...]
    tests: tuple[ShownTest, ...]
    pairs: tuple[tuple[int, str], ...]
    why_none: str
    more: str
    bytes: int


@dataclass(frozen=True, slots=True)
class MatricesRun:
    """The matrices of preference data: counts over all of them, and the shown ones.

    Attributes:
        totals: Sum of `count_matrix`.
        shown: For the template.
        numbers: Of each shown task: its row number, and its programs' numbers by hash.
        left_out: How many were to be shown but would have made the page too large.
        ranker: The ranker's name, None without rankings.
    """

    totals: Counter[str]
    shown: tuple[ShownMatrix, ...]
    numbers: Mapping[str, tuple[int, Mapping[str, int]]]
    left_out: int
    ranker: str | None


def load_matrices(pairs: PairsRun, *, shown: int, seed: int) -> MatricesRun | None:
    """Reads and counts all matrices, and makes `shown` of them ready; None where they are not there.

    Args:
        pairs: The preference data.
        shown: How many matrices.
        seed: Decides which, beside those of the shown pairs.

    Raises:
        CodealignError: A row is broken, or rankings and matrices do not fit each other.
    """
    file = pairs.folder.matrices
    if file is None:
        return None
    rankings: dict[str, Mapping[str, Any]] = {}
    if pairs.folder.rankings:
        rankings = {str(row.get("task_id")): row for row in read_jsonl(pairs.folder.rankings)}
    totals: Counter[str] = Counter()
    places: dict[str, int] = {}
    for place, raw in enumerate(read_jsonl(file)):
        row, ranked = _read(raw, rankings)
        chosen = {ref.chosen_sha for ref in pairs.refs.get(row.task_id, ())}
        totals.update(count_matrix(raw, row, ranked, chosen))
        places.setdefault(row.task_id, place)
    wanted = _choose(places, [str(row.get("task_id", "")) for row in pairs.examples], shown, seed)
    ready: dict[int, tuple[ShownMatrix, Mapping[str, int]]] = {}
    for place, raw in enumerate(read_jsonl(file)):
        if place in wanted:
            row, ranked = _read(raw, rankings)
            own = pairs.refs.get(row.task_id, ())
            programs = {sha(code): i for i, code in enumerate(row.codes)}
            ready[place] = _matrix(place, row, ranked, own, programs), programs
    kept: list[int] = []
    left = MATRIX_BYTES
    for place in wanted:
        left -= ready[place][0].bytes
        if left < 0:
            break
        kept.append(place)
    ids = {place: task_id for task_id, place in places.items()}
    names = {str(row.get("ranker")) for row in rankings.values()}
    return MatricesRun(
        totals,
        tuple(ready[place][0] for place in kept),
        {ids[place]: (place, ready[place][1]) for place in kept},
        len(wanted) - len(kept),
        ", ".join(sorted(names)) if names else None,
    )


def _read(raw: Mapping[str, Any], rankings: Mapping[str, Any]) -> tuple[MatrixRow, RankedRow | None]:
    row = read_matrix_row(raw)
    found = rankings.get(row.task_id)
    return row, None if found is None else read_ranking_row(found, row)


def _choose(places: Mapping[str, int], first: Sequence[str], count: int, seed: int) -> list[int]:
    """Row numbers of the matrices to show: those of the named tasks, then others by chance, in file order."""
    named = [places[task_id] for task_id in dict.fromkeys(first) if task_id in places][:count]
    others = sorted(set(places.values()) - set(named))
    drawn = random.Random(f"{seed}/matrices").sample(others, min(count - len(named), len(others)))
    return named + sorted(drawn)


def _matrix(
    place: int,
    row: MatrixRow,
    ranked: RankedRow | None,
    refs: Sequence[PairRef],
    programs: Mapping[str, int],
) -> ShownMatrix:
    """One matrix, arranged, drawn and described."""
    tests = ranked.tests[0] if ranked and ranked.tests else None
    order = arrange(row.passed, ranked.scores if ranked else None, row.code_counts, tests)
    known = np.ones(row.passed.shape, np.bool_) if row.known is None else row.known
    chosen = {programs[ref.chosen_sha] for ref in refs if ref.chosen_sha in programs}
    rejected = {programs[ref.rejected_sha] for ref in refs if ref.rejected_sha in programs}
    drawing = draw(
        row.passed,
        known,
        order,
        row.code_counts.astype(int).tolist(),
        chosen=chosen,
        rejected=rejected,
        examples={j for j, source in enumerate(row.sources) if source == "example"},
    )
    shown_sets = _sets(row, ranked, order, chosen, rejected)
    shown_tests = _tests(row, order)
    shown_programs = _programs(row, order)
    more = []
    if len(order.sets) > _MAX_SETS:
        more.append(f"{_MAX_SETS} of {len(order.sets)} sets are listed")
    if len(shown_tests) < len(row.tests):
        more.append(f"{len(shown_tests)} of {len(row.tests)} tests are listed")
    why = ""
    if not refs:
        found = unusable(ranked.restricted(row), ranked) if ranked else None
        why = f"No pair: {reason(found) if found else 'none of its combinations was used'}."
    count = f"{len(refs)} pair{'' if len(refs) == 1 else 's'}" if refs else "no pair"
    return ShownMatrix(
        place,
        short(row.task_id),
        f"{len(row.codes)} programs in {len(order.sets)} sets, {len(row.tests)} tests, {count}",
        drawing,
        shown_sets,
        shown_programs,
        shown_tests,
        tuple((ref.number, _pair(ref, programs)) for ref in refs[:_MAX_PAIRS]),
        why,
        "; ".join(more),
        _cost(drawing, shown_sets, shown_programs, shown_tests),
    )


def _sets(
    row: MatrixRow,
    ranked: RankedRow | None,
    order: Arrangement,
    chosen: set[int],
    rejected: set[int],
) -> tuple[ShownSet, ...]:
    """The table of sets, at most 12, and the programs that were not ranked."""
    right = None
    if ranked and ranked.kind in ("log_posterior", "log_probability"):
        right = right_probabilities(ranked.restricted(row), ranked)
    kept = [j for own in order.columns for j in own]
    groups = [(f"{k + 1}", own) for k, own in enumerate(order.sets[:_MAX_SETS])]
    groups += [("unranked", order.unranked)] if order.unranked else []
    found = []
    for name, own in groups:
        score = ranked.scores[own[0]] if ranked else None
        passes = sorted({int(row.passed[i, kept].sum()) for i in own})
        marks = "+" * bool(chosen & set(own)) + "−" * bool(rejected & set(own))
        found.append(
            ShownSet(
                name,
                ", ".join(str(i + 1) for i in own[:12]) + (", …" if len(own) > 12 else ""),
                number(float(row.code_counts[list(own)].sum())),
                "–".join(dict.fromkeys((str(passes[0]), str(passes[-1])))) + f" of {len(kept)}",
                "–" if score is None else number(score),
                percent(float(right[list(own)].max())) if right is not None and score is not None else "",
                marks,
            )
        )
    return tuple(found)


def _programs(row: MatrixRow, order: Arrangement) -> tuple[ShownProgram, ...]:
    """The most drawn program of the first sets."""
    found = []
    for number_of_set, own in enumerate(order.sets[:_MAX_PROGRAMS], 1):
        best = max(own, key=lambda i: (row.code_counts[i], -i))
        cut = excerpt(row.codes[best].strip("\n"), characters=1600, lines=36, width=160)
        found.append(ShownProgram(f"set {number_of_set}, program {best + 1}", highlight(cut.text), cut.note))
    return tuple(found)


def _tests(row: MatrixRow, order: Arrangement) -> tuple[ShownTest, ...]:
    """The tests in the order of the columns, those that hygiene left out at the end."""
    ranked = [i for own in order.sets for i in own]
    tests = [(j, "") for own in order.columns for j in own] + [(j, ", not used") for j in order.left_out]
    return tuple(
        ShownTest(
            j + 1,
            short(row.sources[j], 20) + note,
            f"{int(row.passed[ranked, j].sum())} of {len(ranked)}",
            short(row.tests[j], 160),
        )
        for j, note in tests[:MAX_COLUMNS]
    )


def _pair(ref: PairRef, programs: Mapping[str, int]) -> str:
    sides = [programs.get(hashed) for hashed in (ref.chosen_sha, ref.rejected_sha)]
    names = ["another text" if side is None else f"program {side + 1}" for side in sides]
    sure = "" if ref.confidence is None else f", confidence {number(ref.confidence)}"
    return f"{short(ref.kind.replace('_', ' '), 30)}: {names[0]} over {names[1]}{sure}"


def _cost(
    drawing: Drawing,
    sets: Sequence[ShownSet],
    programs: Sequence[ShownProgram],
    tests: Sequence[ShownTest],
) -> int:
    """About how many bytes of HTML a matrix takes: every character of a text could be an entity of five."""
    picture = sum(len(d) for _, d in drawing.paths) + 75 * len(drawing.labels)
    texts = [test.text for test in tests] + [s.text for p in programs for line in p.lines for s in line]
    escaped = sum(len(t.encode("utf-8", "replace")) + 4 * sum(map(t.count, "&<>\"'")) for t in texts)
    pieces = sum(bool(s.css) for p in programs for line in p.lines for s in line)
    lines = sum(len(p.lines) for p in programs)
    rows = 170 * (len(sets) + len(programs)) + 90 * len(tests)
    return picture + escaped + 24 * pieces + 27 * lines + rows + 2200
