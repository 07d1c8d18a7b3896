"""Episodes of a trace: thinking blocks by their first words (MRT, arXiv 2503.07572), drafts of a program.

The rule for thinking is that of the authors' notebooks (analysis/code/break_into_meta_steps).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from codegen_eval.errors import CodealignError

MARKERS = (
    "Wait",
    "But wait",
    "Alternatively",
    "Is there another way to think about this?",
    "But let me double-check",
    "But hold on",
)
LEAST_PARAGRAPHS = 2

Range = tuple[int, int]

_FENCE = re.compile(r"^(`{3,}|~{3,})(.*)$", re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """The text between blank lines (two newlines), in order; joined by them it is the text again."""
    return text.split("\n\n")


def split_episodes(
    parts: Sequence[str], *, markers: Sequence[str] = MARKERS, max_steps: int = 49
) -> list[Range]:
    """Episodes as ranges [first, end) of paragraphs, which cover all of them.

    A paragraph that starts with a marker opens an episode, unless it stands at most 2 paragraphs behind the
    first one of the present episode.

    Args:
        parts: Paragraphs, one or more.
        markers: First words, case and all.
        max_steps: Most cuts; what follows the last is one episode. The authors take 49, 45 or 99 by study.

    Raises:
        CodealignError: For no paragraphs, no markers, an empty marker, or max_steps below 0.
    """
    if not parts or not markers or not all(markers):
        raise CodealignError("episodes need at least one paragraph, and markers that are not empty")
    if max_steps < 0:
        raise CodealignError(f"max_steps is {max_steps}: give 0 or more cuts")
    starts = [0]
    for place, part in enumerate(parts):
        if len(starts) > max_steps:
            break
        if place - starts[-1] > LEAST_PARAGRAPHS and part.startswith(tuple(markers)):
            starts.append(place)
    return list(zip(starts, [*starts[1:], len(parts)], strict=True))


def join_groups(episodes: Sequence[Range], group_size: int) -> list[Range]:
    """Joins `group_size` episodes at a time; the last group may hold fewer.

    Raises:
        CodealignError: For a group_size below 1.
    """
    if group_size < 1:
        raise CodealignError(f"group_size is {group_size}: give 1 or more")
    groups = [episodes[i : i + group_size] for i in range(0, len(episodes), group_size)]
    return [(group[0][0], group[-1][1]) for group in groups]


def split_drafts(text: str) -> list[Range]:
    """Episodes of code as ranges of characters: a draft in a fenced block with the self-check behind it.

    Every opening fence but the first starts an episode; what stands before the first belongs to the first.
    A text without fences is one episode; a fence that nobody closes lasts to the end.
    """
    starts, inside = [0], ""
    seen = False
    for fence in _FENCE.finditer(text):
        mark, rest = fence.groups()
        if inside:
            if mark.startswith(inside) and not rest.strip():
                inside = ""
            continue
        inside = mark
        if seen:
            starts.append(fence.start())
        seen = True
    return list(zip(starts, [*starts[1:], len(text)], strict=True))
