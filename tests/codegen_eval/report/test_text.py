from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.report.text import excerpt, number, percent, points, short, visible


def test_plain_code_is_shown_as_it_is() -> None:
    code = "def f(x):\n\treturn {x: '<&>'}\n"
    assert visible(code) == code
    assert visible("naïve café 数 العربية") == "naïve café 数 العربية"


@pytest.mark.parametrize(
    "character", "\x00\x1b\x7f\x9b\r\u200b\u202e\u2066\u2028\ufeff\ud800\ue000\U000e0041"
)
def test_hidden_and_reordering_characters_become_visible_escapes(character: str) -> None:
    assert visible(f"a{character}b") == f"a⟨U+{ord(character):04X}⟩b"


def test_towers_of_combining_marks_are_cut() -> None:
    shown = visible("a" + "\u0301" * 50)
    assert sum(unicodedata.combining(c) > 0 for c in shown) == 4


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_visible_text_can_always_be_encoded_and_is_stable(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown


def test_whole_texts_have_no_note() -> None:
    assert excerpt("a\nb").note == ""
    assert excerpt("x" * 4000, width=4000).note == ""


@pytest.mark.parametrize("text", ["x" * 10_000_000, "a\n" * 81, "y" * 401, "\x00" * 3000])
def test_long_texts_are_cut_with_a_note_of_their_size(text: str) -> None:
    cut = excerpt(text)
    assert len(cut.text) <= 4000
    assert len(cut.text.split("\n")) <= 80
    assert max(map(len, cut.text.split("\n"))) <= 400
    assert f"{len(text):,} characters in all" in cut.note


def test_short_gives_one_bounded_line() -> None:
    assert short("a\nb\tc") == "a b c"
    assert len(short("x" * 10_000)) == 80
    assert short("x" * 81, 80).endswith("…")
    assert short("x" * 80, 80) == "x" * 80


def test_figures_are_formatted_for_reading() -> None:
    assert percent(0.4812) == "48.1\u202f%"
    assert percent(None) == points(None) == "–"
    assert [points(v) for v in (0.1421, -0.031, 0.0001, -0.0001)] == ["+14.2", "−3.1", "0.0", "0.0"]
    assert points(0.405, "") == "40.5"
    assert [number(v) for v in (1234567, 0.12345, -0.5, 2.0)] == ["1,234,567", "0.1235", "−0.5", "2"]
