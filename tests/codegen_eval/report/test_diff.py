from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_eval.report.diff import MAX_SEGMENTS, Line, highlight, side_by_side

pytest.importorskip("pygments")


def text_of(lines: tuple[Line, ...]) -> str:
    return "\n".join("".join(s.text for s in line.segments) for line in lines if line.number)


def test_equal_programs_have_no_marks() -> None:
    both = side_by_side("x = 1\ny = 2", "x = 1\ny = 2")
    assert not any(line.changed for line in both.left + both.right)


def test_a_changed_word_is_marked_on_both_sides_and_nothing_else() -> None:
    both = side_by_side(
        "    total += number * 2\n    return total", "    total += value * 2\n    return total"
    )
    marked = [[s.text for s in line.segments if s.marked] for line in (both.left[0], both.right[0])]
    assert marked == [["number"], ["value"]]
    assert not both.left[1].changed


def test_an_inserted_line_stands_against_a_filler() -> None:
    both = side_by_side("a = 1\nreturn a", "a = 1\nprint(a)\nreturn a")
    assert [line.number for line in both.left] == [1, 0, 2]
    assert [line.number for line in both.right] == [1, 2, 3]


def test_alike_lines_of_a_replaced_block_are_set_beside_each_other() -> None:
    both = side_by_side('print("x")\nreturn total + 1', "return total")
    assert [(a.number, b.number) for a, b in zip(both.left, both.right, strict=True)] == [(1, 0), (2, 1)]


def test_python_is_highlighted_by_class() -> None:
    (line,) = highlight("return 'a'  # why")
    assert [(s.text, s.css) for s in line if s.css] == [("return", "hk"), ("'a'", "hs"), ("# why", "hc")]


def test_a_text_of_countless_tokens_loses_its_colours_not_its_content() -> None:
    text = "1+" * (MAX_SEGMENTS + 1)
    (line,) = highlight(text)
    assert [s.text for s in line] == [text]


@given(st.text(max_size=80), st.text(max_size=80))
def test_the_sides_show_each_text_whole_and_have_equal_length(left: str, right: str) -> None:
    from codegen_eval.report.text import visible

    both = side_by_side(left, right)
    assert len(both.left) == len(both.right)
    for lines, text in ((both.left, left), (both.right, right)):
        assert text_of(lines) == visible(text.strip("\n"))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x" * 10_000_000, "y\n" * 1_000_000),
        ("1+" * 5000, "1-" * 5000),
        (("a b " * 100 + "\n") * 80, ("b a " * 99 + "\n") * 80),
        ('"' * 4000, "'''" * 1300),
        ("(" * 4000, "\\" * 4000),
    ],
)
@pytest.mark.timeout(60)
def test_hostile_texts_are_compared_in_bounded_time(left: str, right: str) -> None:
    both = side_by_side(left, right)
    assert len(both.left) <= 160


def test_cut_texts_say_so() -> None:
    both = side_by_side("x" * 10_000, "x")
    assert "10,000 characters" in both.left_note
    assert both.right_note == ""
