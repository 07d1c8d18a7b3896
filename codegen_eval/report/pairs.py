"""Preference pairs side by side: rejected on the left, chosen on the right, what differs marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegen_eval.report.diff import Segment, SideBySide, highlight, side_by_side
from codegen_eval.report.loading import PairsRun, text_of
from codegen_eval.report.matrices import MatricesRun
from codegen_eval.report.text import excerpt, number, short

# Columns of a pair that are shown as they are, with what they are called.
_FACTS = (
    ("confidence", "confidence"),
    ("margin", "margin"),
    ("chosen_score", "score of chosen"),
    ("rejected_score", "of rejected"),
    ("ties", "equally good choices"),
    ("ranker", "ranker"),
)


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A preference pair ready for the template.

    Attributes:
        number: Its row in pairs.jsonl, from 1.
        matrix: Row number of its problem's matrix, where that is on the page.
        programs: The two programs' numbers in the matrix, in words.
    """

    number: int
    task_id: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    prompt: list[tuple[Segment, ...]]
    prompt_note: str
    diff: SideBySide
    matrix: int | None
    programs: str


def shown_pairs(pairs: PairsRun, matrices: MatricesRun | None) -> list[ShownPair]:
    """The pairs that were drawn to be shown, with the way to their matrices."""
    return [_shown(row, place, matrices) for row, place in zip(pairs.examples, pairs.numbers, strict=True)]


def _shown(row: Mapping[str, Any], place: int, matrices: MatricesRun | None) -> ShownPair:
    texts = {key: text_of(row[key]) or "" for key in ("prompt", "chosen", "rejected")}
    prompt = excerpt(texts["prompt"].strip("\n"), characters=2500, lines=60)
    facts = [(name, _plain(row[key])) for key, name in _FACTS if row.get(key) is not None]
    weights = [row.get("chosen_weight"), row.get("rejected_weight")]
    if any(weight not in (None, 1.0) for weight in weights):
        facts.append(("weights", " and ".join(_plain(weight) for weight in weights)))
    sources = row.get("sources")
    if isinstance(sources, list) and sources:
        facts.append(("tests from", short(", ".join(str(source) for source in sources[:8]))))
    matrix, programs = None, ""
    found = matrices.numbers.get(str(row.get("task_id", ""))) if matrices else None
    if found is not None:
        matrix, numbers = found
        sides = [numbers.get(str(row.get(f"{side}_sha", ""))) for side in ("chosen", "rejected")]
        known = [f"program {side + 1}" for side in sides if side is not None]
        programs = " over ".join(known) if len(known) == 2 else ""
    return ShownPair(
        number=place,
        task_id=short(str(row.get("task_id", ""))),
        kind=short(str(row.get("kind", "unknown")), 30),
        facts=tuple(facts),
        prompt=[tuple(line) for line in highlight(prompt.text)],
        prompt_note=prompt.note,
        diff=side_by_side(texts["rejected"], texts["chosen"]),
        matrix=matrix,
        programs=programs,
    )


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return short(str(value), 120)
