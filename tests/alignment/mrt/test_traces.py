"""Traces: where thinking ends and episodes end, in the tokens that were sampled."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from alignment.mrt.decoding import Completion
from alignment.mrt.styles import episode_style, thinking_style
from alignment.mrt.traces import Question, Style, character_ends, decoded, episode_cuts, read_completion
from alignment.tiny_coder.tokenizer import train_tokenizer
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import ALPHABET
from codegen_eval.tasks.episodes_tokenizer import character_tokenizer

TEXT = "return 12 + f('é\U0001f600')\n\nWait, so\n"


@cache
def pieces() -> Any:
    """A byte-level tokenizer: letters of one word may be one token, a letter with an accent is two."""
    return train_tokenizer([TEXT * 3, "first no Wait, Alternatively, " * 5], 290)


QUESTION = Question("31847=", "31847=", "32")


def read(text: str, *, ended: bool = True) -> Any:
    tokenizer = character_tokenizer(ALPHABET)
    return read_completion(
        tokenizer, episode_style(), QUESTION, 0, (5,), Completion(tuple(tokenizer.encode(text)), ended)
    )


@pytest.mark.parametrize(
    ("text", "ended", "cuts", "ending", "finished", "outcome"),
    [
        ("402213#32", True, (3, 6), 3, True, 1.0),
        ("402213#31", True, (3, 6), 3, True, 0.0),
        ("402213#32", False, (3, 6), 3, False, 0.0),  # cut off: not an answer
        ("402213", True, (3, 6), 0, False, 0.0),
        ("#32", True, (), 3, True, 1.0),
        ("4022#3#2", True, (4,), 4, True, 0.0),  # the first close counts
        ("", True, (), 0, False, 0.0),
    ],
)
def test_a_completion_is_read_as_thinking_and_answer(
    text: str, ended: bool, cuts: tuple[int, ...], ending: int, finished: bool, outcome: float
) -> None:
    trace = read(text, ended=ended)
    assert (trace.cuts, len(trace.ending), trace.finished, trace.outcome) == (cuts, ending, finished, outcome)
    assert len(trace.thinking) + len(trace.ending) == len(text)


def test_tokens_of_several_characters_and_of_parts_of_one_keep_their_places() -> None:
    tokenizer, text = pieces(), TEXT + "\u20ac"
    ids = tokenizer.encode(text)
    ends = character_ends(tokenizer, ids)
    assert decoded(tokenizer, ids) == text and ends[-1] == len(text)
    assert ends == sorted(ends) and len(ends) == len(ids)
    for i, end in enumerate(ends):
        whole = decoded(tokenizer, ids[: i + 1])
        if not whole.endswith("\ufffd"):
            assert whole == text[:end]


def test_paragraphs_of_thinking_become_token_ranges_that_cover_all() -> None:
    tokenizer = pieces()
    style = thinking_style("</think>")
    parts = ["first", "a", "b", "Wait, no", "c", "d", "Alternatively, e"]
    ids = tokenizer.encode("\n\n".join(parts))
    cuts = episode_cuts(tokenizer, style, ids)
    assert len(cuts) == 3 and cuts[-1] == len(ids)
    assert decoded(tokenizer, ids[cuts[0] :]).lstrip("\n").startswith("Wait, no")
    assert decoded(tokenizer, ids[cuts[1] :]).lstrip("\n").startswith("Alternatively")
    joined = thinking_style("</think>", group_size=2)
    assert episode_cuts(tokenizer, joined, ids) == (cuts[1], cuts[2])


def test_a_forced_stop_that_does_not_close_and_a_grader_out_of_range_are_refused() -> None:
    with pytest.raises(CodealignError, match="must end with what closes"):
        Style("#", "stop", lambda text: [], lambda question, given: 0.0)
    bad = Style("#", "#", lambda text: [], lambda question, given: 2.0)
    tokenizer = character_tokenizer(ALPHABET)
    with pytest.raises(CodealignError, match="graded 2"):
        read_completion(tokenizer, bad, QUESTION, 0, (5,), Completion(tuple(tokenizer.encode("#1")), True))
