"""Episodes: they cover the text, and markers open them only behind enough paragraphs."""

from __future__ import annotations

import pytest

from alignment.mrt.episodes import MARKERS, join_groups, paragraphs, split_drafts, split_episodes
from codegen_eval.errors import CodealignError


def test_a_marker_opens_an_episode_behind_more_than_two_paragraphs() -> None:
    for distance in range(1, 6):
        parts = ["start"] + ["text"] * (distance - 1) + ["Wait, no."]
        expected = [(0, distance), (distance, distance + 1)] if distance > 2 else [(0, distance + 1)]
        assert split_episodes(parts) == expected


@pytest.mark.parametrize("marker", MARKERS)
def test_every_marker_counts_at_the_start_of_a_paragraph_alone(marker: str) -> None:
    assert len(split_episodes(["a", "b", "c", marker + " so"])) == 2
    assert len(split_episodes(["a", "b", "c", "So " + marker])) == 1
    assert len(split_episodes(["a", "b", "c", marker.lower()])) == 1


def test_ranges_cover_the_text_whatever_the_bounds_are() -> None:
    text = "\n\n".join(["Wait" if i % 3 == 0 else "x" for i in range(20)])
    parts = paragraphs(text)
    assert "\n\n".join(parts) == text
    for max_steps in (0, 1, 3, 99):
        episodes = split_episodes(parts, max_steps=max_steps)
        assert len(episodes) == min(max_steps, 6) + 1
        for size in (1, 2, 5, 50):
            groups = join_groups(episodes, size)
            places = [place for first, end in groups for place in range(first, end)]
            assert places == list(range(20))
            assert len(groups) == -(-len(episodes) // size)


def test_a_draft_goes_with_its_self_check() -> None:
    text = "Plan.\n```python\na\n```\nCheck: wrong.\n```python\nb\n```\nCheck: right.\n"
    first, second = split_drafts(text)
    assert text[slice(*first)] == "Plan.\n```python\na\n```\nCheck: wrong.\n"
    assert text[slice(*second)] == "```python\nb\n```\nCheck: right.\n"


def test_fences_within_fences_and_open_ones_start_nothing() -> None:
    nested = "````\n```python\na\n```\n````\nthen\n"
    assert split_drafts(nested) == [(0, len(nested))]
    assert len(split_drafts("```\na\n```\n```\nnever closed\n")) == 2
    assert split_drafts("no code") == [(0, 7)]


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: split_episodes([]),
        lambda: split_episodes(["a"], markers=[""]),
        lambda: split_episodes(["a"], max_steps=-1),
        lambda: join_groups([(0, 1)], 0),
    ):
        with pytest.raises(CodealignError):
            call()
