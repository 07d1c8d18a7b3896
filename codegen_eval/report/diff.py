"""Two programs side by side: aligned lines, the differing words marked, Python highlighted.

The result is plain data (segments of text with a CSS class), never HTML: the template escapes every segment,
so that nothing a model wrote can become an element. Pygments only names the kind of each token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise, zip_longest

from codegen_eval.errors import CodealignError
from codegen_eval.report.text import excerpt

# Above this many differently coloured pieces a text is shown without colours: it is no program that anyone
# reads, and the page must stay small.
MAX_SEGMENTS = 1200
_WORD = re.compile(r"\w+|\s+|[^\w\s]")
# Two lines that share less than this are shown as different lines, not as one line with everything marked.
_ALIKE = 0.4
# Comparing takes time with the product of the numbers of words or lines: beyond these, nothing is matched up.
_MAX_WORD_PAIRS = 20_000
_MAX_LINE_PAIRS = 900


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of one line: its text, its syntax class ('' = plain), whether it differs from the other."""

    text: str
    css: str = ""
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a side; number 0 is a filler that keeps the two sides aligned."""

    number: int
    changed: bool
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Both texts with as many lines each, and what was left out of each for display."""

    left: tuple[Line, ...]
    right: tuple[Line, ...]
    left_note: str
    right_note: str


def side_by_side(left: str, right: str) -> SideBySide:
    """Aligns two programs by lines and marks what differs; both are cut and made visible by `excerpt`."""
    left_cut, right_cut = excerpt(left.strip("\n")), excerpt(right.strip("\n"))
    left_lines, right_lines = left_cut.text.split("\n"), right_cut.text.split("\n")
    left_colours, right_colours = highlight(left_cut.text), highlight(right_cut.text)
    left_out: list[Line] = []
    right_out: list[Line] = []
    for i, j in _aligned(left_lines, right_lines):
        changed = i is None or j is None or left_lines[i] != right_lines[j]
        spans = (
            _word_spans(left_lines[i], right_lines[j])
            if i is not None and j is not None and changed
            else ([], [])
        )
        left_out.append(_line(left_colours, i, changed, spans[0]))
        right_out.append(_line(right_colours, j, changed, spans[1]))
    return SideBySide(tuple(left_out), tuple(right_out), left_cut.note, right_cut.note)


def highlight(text: str) -> list[tuple[Segment, ...]]:
    """The lines of a (bounded, visible) Python text as segments with their syntax class; nothing is lost.

    Raises:
        CodealignError: Pygments is not installed.
    """
    try:
        from pygments.lexers.python import PythonLexer
    except ImportError as error:
        raise CodealignError(
            f"highlighting programs needs Pygments ({error}): pip install 'codealign[report]'"
        ) from None

    lines: list[list[Segment]] = [[]]
    count = 0
    for _, token, value in PythonLexer().get_tokens_unprocessed(text):
        css = _css_class(str(token))
        for k, piece in enumerate(value.split("\n")):
            if k:
                lines.append([])
            if piece:
                count += _append(lines[-1], Segment(piece, css))
    if count > MAX_SEGMENTS:
        return [(Segment(line),) if line else () for line in text.split("\n")]
    return [tuple(line) for line in lines]


def _append(line: list[Segment], segment: Segment) -> int:
    """Adds a segment, joined to the one before where they look alike; returns how many segments that made."""
    if line and (line[-1].css, line[-1].marked) == (segment.css, segment.marked):
        line[-1] = Segment(line[-1].text + segment.text, segment.css, segment.marked)
        return 0
    line.append(segment)
    return 1


def _css_class(token: str) -> str:
    """Our class for a Pygments token type; names, operators and punctuation stay plain."""
    for prefix, css in (
        ("Token.Comment", "hc"),
        ("Token.Keyword", "hk"),
        ("Token.Operator.Word", "hk"),
        ("Token.Literal.String", "hs"),
        ("Token.Literal.Number", "hn"),
        ("Token.Name.Function", "hf"),
        ("Token.Name.Class", "hf"),
        ("Token.Name.Builtin", "hb"),
    ):
        if token.startswith(prefix):
            return css
    return ""


def _aligned(left: list[str], right: list[str]) -> Iterator[tuple[int | None, int | None]]:
    """Pairs of line numbers to show beside each other; None is a gap."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    for tag, i0, i1, j0, j1 in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(range(i0, i1), range(j0, j1), strict=True)
        else:
            yield from (
                (i0 + i if i is not None else None, j0 + j if j is not None else None)
                for i, j in _matched(left[i0:i1], right[j0:j1])
            )


def _matched(left: list[str], right: list[str]) -> list[tuple[int | None, int | None]]:
    """Sets the most alike lines of two replaced blocks beside each other, in order; gaps for the rest."""
    n, m = len(left), len(right)
    if n * m > _MAX_LINE_PAIRS:
        return list(zip_longest(range(n), range(m)))
    bags = [[Counter(_WORD.findall(line.strip())) for line in side] for side in (left, right)]
    # best[i][j]: greatest total likeness of the lines from i and from j on.
    best = [[0.0] * (m + 1) for _ in range(n + 1)]
    alike = [[_likeness(a, b) for b in bags[1]] for a in bags[0]]
    for i in reversed(range(n)):
        for j in reversed(range(m)):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + alike[i][j])
    out: list[tuple[int | None, int | None]] = []
    i = j = 0
    while i < n and j < m:
        if alike[i][j] and best[i][j] == best[i + 1][j + 1] + alike[i][j]:
            out.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            out.append((i, None))
            i += 1
        else:
            out.append((None, j))
            j += 1
    return out + [(k, None) for k in range(i, n)] + [(None, k) for k in range(j, m)]


def _likeness(a: Counter[str], b: Counter[str]) -> float:
    """Share of the words that two lines have in common (Dice), 0 where it is too small to count."""
    shared = 2 * (a & b).total() / max(1, a.total() + b.total())
    return shared if shared >= _ALIKE else 0.0


def _word_spans(left: str, right: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Character ranges of the words that differ between two lines; none where they have little in common."""
    left_words, right_words = _WORD.findall(left), _WORD.findall(right)
    if len(left_words) * len(right_words) > _MAX_WORD_PAIRS:
        return [], []
    matcher = SequenceMatcher(None, left_words, right_words, autojunk=False)
    if matcher.ratio() < _ALIKE:
        return [], []
    opcodes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    return (
        _ranges(left_words, [(i0, i1) for _, i0, i1, _, _ in opcodes]),
        _ranges(right_words, [(j0, j1) for _, _, _, j0, j1 in opcodes]),
    )


def _ranges(words: list[str], spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges of words as ranges of characters, empty ones left out."""
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word))
    return [(starts[a], starts[b]) for a, b in spans if a < b]


def _line(
    colours: list[tuple[Segment, ...]], index: int | None, changed: bool, spans: list[tuple[int, int]]
) -> Line:
    """One line of a side with the spans marked; a filler where there is no line."""
    if index is None:
        return Line(0, True, ())
    out: list[Segment] = []
    position = 0
    for segment in colours[index]:
        for text, marked in _split(segment.text, position, spans):
            _append(out, Segment(text, segment.css, marked))
        position += len(segment.text)
    return Line(index + 1, changed, tuple(out))


def _split(text: str, start: int, spans: list[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """The text cut at the borders of the spans, each piece with whether it lies in one."""
    cuts = {0, len(text)} | {edge - start for span in spans for edge in span if 0 < edge - start < len(text)}
    ordered = sorted(cuts)
    for a, b in pairwise(ordered):
        yield text[a:b], any(low <= start + a < high for low, high in spans)
