"""Warm-start data: the way back leads to where the trace still held, and what was wrong is not learned."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.mrt.styles import episode_questions
from alignment.mrt.warm_start import (
    back_line,
    backtrack_row,
    backtrack_text_of,
    backtracking_text,
    find_backtracks,
    last_hold,
    read_back_line,
)
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import EpisodeTask
from tests.alignment.mrt.made_up import prover


def test_lines_are_numbered_and_go_on_behind_the_line_that_is_kept() -> None:
    text = backtracking_text(["a = 2", "b =\n3", "c = 9"], 1, ["b = 4", "c = 6"])
    assert text.splitlines() == [
        "Line 1: a = 2",
        "Line 2: b = 3",
        "Line 3: c = 9",
        "Backtrack to Line 1",
        "Line 2: b = 4",
        "Line 3: c = 6",
    ]
    assert backtracking_text(["Line 7: a"], 0, ["b"]) == "Line 1: a\nBacktrack to beginning\nLine 1: b\n"


def test_a_way_back_is_read_as_it_was_written_and_nothing_else_is() -> None:
    assert [read_back_line(back_line(k)) for k in (0, 1, 12)] == [0, 1, 12]
    assert read_back_line("Backtrack to Line x") is read_back_line("Line 3: Backtrack to Line 2") is None
    for wrong in (lambda: back_line(-1), lambda: backtracking_text(["a"], 1, ["b"])):
        with pytest.raises(CodealignError):
            wrong()
    with pytest.raises(CodealignError, match="0 follow"):
        backtracking_text(["a", "b"], 1, [])


@pytest.mark.parametrize(
    ("j", "kept"), [([0.1, 0.5, 0.5, 0.0], 2), ([0.5, 0.2, 0.1], 0), ([0, 0, 1], 2), ([0.3], 0)]
)
def test_a_trace_holds_up_to_the_last_prefix_of_the_largest_j(j: list[float], kept: int) -> None:
    assert last_hold(np.array(j)) == kept


def test_found_traces_fall_go_back_and_end_right_and_only_that_is_learned() -> None:
    p, questions = prover(), episode_questions(EpisodeTask(), 41, 30)
    found = find_backtracks(p, questions, traces=2, stops=6, attempts=12, seed=0)
    assert found and len({one.wrong.question.key for one in found}) == len(found)
    back = tuple(p.tokenizer.encode("<<"))
    for one in found:
        kept = (0, *one.wrong.cuts)[one.kept]
        assert one.wrong.outcome == 0 and one.right.outcome == 1 and one.kept < len(one.wrong.cuts)
        assert one.right.thinking[:kept] == one.wrong.thinking[:kept]
        row = backtrack_row(p, one, back)
        read = len(one.wrong.prompt) + len(one.wrong.thinking)
        assert set(row.weights[:read]) == {0.0} and set(row.weights[read:]) == {1.0}
        assert row.ids[read:] == (*back, *one.right.thinking[kept:], *one.right.ending, p.end)
        lines = backtrack_text_of(p, one).splitlines()
        assert lines[len(one.wrong.cuts)] == back_line(one.kept)
        assert lines[len(one.wrong.cuts) + 1].startswith(f"Line {one.kept + 1}: ")
