"""Answers that are numbers, and files of questions."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from alignment.mrt.questions import read_questions
from alignment.mrt.styles import episode_questions, last_number, number_grade
from alignment.mrt.traces import Question
from codegen_eval.errors import CodealignError
from codegen_eval.tasks.episodes import EpisodeTask


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Half of 48 is 24.\n#### 72", "72"),
        ("#### 1,234", "1234"),
        ("so \\boxed{-3.50}", "-3.5"),
        ("$1234.00", "1234"),
        ("about 3. Then 12.", "12"),
        (".5", "0.5"),
        ("no number", None),
        ("", None),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_the_last_number_of_a_text(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_numbers_are_compared_as_numbers() -> None:
    question = Question("0", "?", "It is 1,000.\n#### 1,000")
    assert number_grade(question, "#### 1000.0") == 1.0
    assert number_grade(question, "1000 apples, no 1001") == 0.0 == number_grade(question, "none")
    with pytest.raises(CodealignError, match="no number"):
        number_grade(Question("0", "?", "none"), "1")


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_in_gsm8ks_format_are_read_once_each(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in (1, 2, 1, 3)]
    path = write(tmp_path / "q.jsonl", *rows, {"prompt": "p {x}", "answer": "4"})
    found = read_questions(path, "Q: {question}\nA:")
    assert [q.key for q in found] == ["0", "1", "3", "4"]
    assert found[0].prompt == "Q: What is 1 + 1?\nA:" and found[-1].prompt == "Q: p {x}\nA:"
    assert len(read_questions(path, "{question}", 2)) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no questions"),
        ([{"question": "q", "answer": "1"}, {"question": "q"}], "row 2 of .* needs the texts"),
        ([{"question": " ", "answer": "1"}], "row 1"),
        ([{"question": "q", "answer": 3}], "row 1"),
        ([{"question": "q", "answer": "three"}], "no number in its answer"),
    ],
)
def test_files_without_usable_questions_are_refused(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        read_questions(write(tmp_path / "q.jsonl", *rows), "{question}")
    with pytest.raises(CodealignError, match="no such file"):
        read_questions(tmp_path / "none.jsonl", "{question}")


def test_the_embedded_questions_have_right_answers() -> None:
    for question in episode_questions(EpisodeTask(), 0, 20):
        assert int(question.answer[::-1]) == sum(map(int, question.prompt[:-1]))
