"""Tasks of a search: prompts as they are asked, verifiers by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alignment.search.tasks import TaskOptions, final_number, load_tasks
from codegen_eval.errors import CodealignError


def nobody() -> Any:
    raise AssertionError("no program is to be run")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7.\n#### 7", "7"),
        ("#### 1,234.50", "1234.5"),
        ("The answer is $18. Not 19", "18"),
        ("the Answer is: -3", "-3"),
        ("first the answer is 4, no: the answer is 5 apples, 6", "5"),
        ("3 and then 12", "12"),
        ("#### 2\n#### 3 of 4", "3"),
    ],
)
def test_the_final_number_of_a_solution(text: str, number: str) -> None:
    assert final_number(text) == Decimal(number)


def test_a_solution_without_a_number_has_none() -> None:
    for text in ("", "no idea", "the answer is unknown", "7 apples. #### none", "-", "$"):
        assert final_number(text) is None, text


def test_questions_with_numbers_are_read_and_verified(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    rows = [{"question": "1 + {1}?", "answer": "#### 2"}, {"question": "10 - 3?", "answer": "so 7\n#### 7"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = TaskOptions(kind="math", dataset=file, template="Q: {question}\nA: ")
    tasks = load_tasks(options, nobody, seed=0)
    assert tasks.names == ("train/0", "train/1") and tasks.texts[0] == "Q: 1 + {1}?\nA: "
    verify = tasks.verifier([1, 0])
    assert verify([(0, "It is 7."), (1, "#### 2.0"), (1, "7"), (0, "")]) == [1.0, 1.0, -1.0, -1.0]
    for broken, message in (
        ('{"question": 1, "answer": "2"}\n', "train.jsonl:1: 'question' must be a text"),
        ('{"question": "1?", "answer": "none"}\n', "train.jsonl:1: the answer holds no number"),
        ("", "holds no question"),
    ):
        file.write_text(broken)
        with pytest.raises(CodealignError, match=message):
            load_tasks(options, nobody, seed=0)


def test_running_sums_are_drawn_by_the_seed() -> None:
    options = TaskOptions(kind="running-sum", questions=5, digits=4)
    one, same, other = (load_tasks(options, nobody, seed=seed) for seed in (1, 1, 2))
    assert one.texts == same.texts != other.texts and len(one.texts[0]) == 5
    question = one.texts[3]
    total, written = int(question[0]), ""
    for digit in question[1:4]:
        total += int(digit)
        written += f"{total % 10}{total // 10}"
    assert one.verifier([3])([(0, written), (0, written[:-1]), (0, written + "00")]) == [1.0, -1.0, -1.0]


def test_code_comes_from_a_benchmarks_split_and_no_sandbox_starts_before_it_is_needed() -> None:
    tasks = load_tasks(TaskOptions(split="tune"), nobody, seed=0)
    assert len(tasks.texts) == 136 and tasks.texts[0].startswith("def ")
    assert tasks.splitter(tasks.texts[0] + "    a = 1\n    b = 2\n")
    with pytest.raises(CodealignError, match="unknown split"):
        load_tasks(TaskOptions(split="trian"), nobody, seed=0)


def test_options_that_a_kind_does_not_read_are_refused() -> None:
    for given, message in (
        ({"kind": "running-sum", "partial": True}, "task.partial does nothing"),
        ({"template": "{question}!"}, "task.template does nothing"),
        ({"kind": "math"}, "needs task.dataset"),
        ({"kind": "math", "dataset": "x", "template": "why?"}, "needs the field"),
        ({"digits": 4}, "task.digits does nothing for the kind 'code'"),
    ):
        with pytest.raises(ValidationError, match=message):
            TaskOptions.model_validate(given)
