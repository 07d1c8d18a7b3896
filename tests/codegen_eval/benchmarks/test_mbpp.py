"""MBPP, sanitised and full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import results, returns_none, verdicts, without, write

pytestmark = pytest.mark.sandbox
ROW = {
    "source_file": "own",
    "task_id": 11,
    "prompt": "Write a function to take a root.",
    "code": "def root(x):\n    return math.sqrt(x)",
    "test_imports": ["import math"],
    "test_list": ["assert root(4) == 2", "assert math.isclose(root(2), 1.41421356, rel_tol=1e-6)"],
}
FULL = {
    "task_id": 601,
    "text": "Write a function to find the longest path down a tree.",
    "code": "class Node:\r\n\tdef __init__(self, n):\r\n\t\tself.n, self.left = n, None\r\n"
    "def depth(root):\r\n\treturn 0 if root is None else 1 + depth(root.left)\r\n",
    "test_setup_code": "root = Node(1)\r\nroot.left = Node(2)",
    "test_list": ["assert (depth(root)) == 2", "assert (depth(root.left)) == 1"],
    "challenge_test_list": ["assert False"],
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def fixture(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "mbpp" / "sanitized-mbpp.json"


def test_the_sanitised_file_has_427_tasks_in_four_splits(fixture: Path) -> None:
    problems = load("mbpp", fixture)
    sizes = {name: len(load("mbpp", fixture, name)) for name in ("prompt", "test", "validation", "train")}
    assert len(problems) == 427 == sum(sizes.values())
    assert sizes == {"prompt": 7, "test": 257, "validation": 43, "train": 120}
    assert sorted(p.meta["number"] for p in load("mbpp", fixture, "prompt")) == [2, 3, 4, 6, 7, 8, 9]


@pytest.mark.slow
def test_references_pass_and_what_returns_none_fails(fixture: Path, box: Sandbox) -> None:
    problems = load("mbpp", fixture)
    right = box.run(problem.program(problem.reference) for problem in problems)
    failed = {
        problem.task_id for problem, result in zip(problems, right, strict=True) if result.verdict != "passed"
    }
    assert failed <= {"Mbpp/123"}  # needs 5 to 9 s of CPU by the core
    wrong = box.run(problem.program(returns_none(problem.reference)) for problem in problems)
    kept = {
        problem.task_id for problem, result in zip(problems, wrong, strict=True) if result.verdict == "passed"
    }
    assert kept == set()


def test_a_model_sees_the_first_assert_and_a_chat_model_all(fixture: Path) -> None:
    problem = load("mbpp", fixture)[0]
    first, *others = json.loads(fixture.read_text())[0]["test_list"]
    assert problem.prompt.startswith('"""\nWrite a function') and problem.prompt.endswith(f'\n{first}\n"""\n')
    assert all(text in problem.chat for text in (first, *others)) and others[0] not in problem.prompt
    assert problem.chat.startswith("You are an expert Python programmer, and here is your task: Write")


def test_imports_of_the_tests_are_there_for_the_answer_too(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("mbpp", write(tmp_path / "m", ROW))
    assert problem.entry_point == "root" and problem.task_id == "Mbpp/11"
    sources = (problem.reference, problem.source("def root(x):\n    return math.sqrt(x) + 1e-3\n"))
    assert verdicts(box, problem, *sources) == ["passed", "wrong_answer"]


def test_a_completion_is_cut_at_the_next_assert_or_docstring(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("mbpp", write(tmp_path / "m", ROW))
    source = problem.source('def root(x):\n    return x ** 0.5\n\nassert root(1) == 2\n"""\nNext')
    assert source.endswith("x ** 0.5\n") and verdicts(box, problem, source) == ["passed"]


def test_set_up_code_of_the_full_set_uses_the_answers_classes(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("mbpp", write(tmp_path / "m", FULL), "train")
    assert problem.entry_point == "depth" and problem.meta["number"] == 601
    found = results(box, problem, problem.reference, problem.reference.replace("1 +", "2 +"))
    assert [result.verdict.value for result in found] == ["passed", "wrong_answer"]
    assert all(result.verdict_trust == "isolated" for result in found)


def test_a_lying_object_does_not_pass(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("mbpp", write(tmp_path / "m", ROW))
    liar = "class A:\n    def __eq__(self, o): return True\n    def __float__(self): return 2.0\n"
    assert verdicts(box, problem, liar + "def root(x): return A()") != ["passed"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "test_imports"), "'test_imports', a list of texts, is missing"),
        (without(FULL, "test_setup_code"), "the text field 'test_setup_code' is missing"),
        (without(ROW, "prompt"), "the text field 'prompt' is missing"),
        ({**ROW, "test_list": []}, "test_list is empty"),
        ({**ROW, "task_id": "11"}, "the whole number 'task_id' is '11'"),
        ({**ROW, "test_list": ["assert ("]}, "code or asserts are not Python"),
        ({**ROW, "test_list": ["assert True"]}, "no assert calls a function"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "m.jsonl", {**ROW, "task_id": 12}, row)
    with pytest.raises(CodealignError, match=rf"m\.jsonl:2: .*{why}"):
        load("mbpp", path)


def test_an_unknown_split_is_answered_with_the_nearest(fixture: Path) -> None:
    with pytest.raises(CodealignError, match=r"unknown split of mbpp 'valid'.*validation"):
        load("mbpp", fixture, "valid")
    with pytest.raises(CodealignError, match="mbpp is not shipped"):
        load("mbpp")
