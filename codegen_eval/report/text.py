"""Makes text that a model wrote safe to look at: hidden characters become visible, long text is cut.

HTML escaping is not done here: the page's templates do it for every value (autoescape).
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

# Cc control (terminal escapes, NUL), Cf format (bidi overrides, zero-width), Cs lone surrogates (no UTF-8),
# Co private use and Cn unassigned (draw as anything), Zl and Zp line separators that editors disagree about.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")
# Combining marks in a row that real text has; towers of them would draw over the neighbouring lines.
_MAX_MARKS = 4


def visible(text: str) -> str:
    """The text with every hidden or reordering character written as `⟨U+XXXX⟩`; line breaks and tabs stay."""
    if _PLAIN.fullmatch(text):
        return text
    out: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        hidden = category in _HIDDEN and character not in "\n\t"
        out.append(f"⟨U+{ord(character):04X}⟩" if hidden or marks > _MAX_MARKS else character)
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The part of a text that is shown, and what was left out (empty when it is whole)."""

    text: str
    note: str = ""


def excerpt(text: str, *, characters: int = 4000, lines: int = 80, width: int = 400) -> Excerpt:
    """The visible form of the text's beginning, bounded in characters, lines and line width.

    Args:
        text: Any text, of any length.
        characters: The most characters of the visible form that are shown.
        lines: The most lines that are shown.
        width: The most characters of one line that are shown.

    Returns:
        The excerpt; its note gives the full size when something was left out.
    """
    # Cutting first keeps the work bounded: visible() only ever lengthens a text.
    head = visible(text[:characters])[:characters]
    kept = head.split("\n")[:lines]
    shown = "\n".join(line[:width] for line in kept)
    if shown == visible(text[: characters + 1]):
        return Excerpt(shown)
    return Excerpt(shown, f"cut for display: {len(text):,} characters in all, {len(shown):,} shown")


def short(text: str, characters: int = 80) -> str:
    """One visible line of at most `characters` characters, the cut marked by an ellipsis."""
    line = visible(text[: characters + 1]).replace("\n", " ").replace("\t", " ")
    return line if len(line) <= characters else line[: characters - 1] + "…"


def percent(value: float | None) -> str:
    """A share as a percentage with one digit, a dash for None: 0.4812 -> '48.1 %'."""
    return "–" if value is None else f"{100 * value:.1f}\u202f%"


def points(value: float | None, sign: str = "+") -> str:
    """A share or a difference of shares in percentage points, a dash for None: 0.1421 -> '+14.2'.

    Args:
        value: The share, as a fraction.
        sign: What stands before a value above 0.
    """
    if value is None:
        return "–"
    rounded = round(100 * value, 1)
    return f"{sign if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"


def number(value: float) -> str:
    """A figure for people: whole numbers grouped in thousands, others with four significant digits."""
    if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4g}".replace("-", "−")
