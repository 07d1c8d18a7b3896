"""HumanEval+ in both forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from codegen_eval.oracles import answered
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import results, returns_none, verdicts, without, write

pytestmark = pytest.mark.sandbox
ROW = {
    "task_id": "HumanEval/1",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "base_input": [[1], [2]],
    "plus_input": [[-1], [0.1], [10**30]],
    "atol": 0,
}
HUB = {
    **{key: ROW[key] for key in ("task_id", "prompt", "entry_point", "canonical_solution")},
    "test": "def check(candidate):\n    inputs = [[1], [0.5]]\n    results = [2, 1.0]\n"
    "    for i, e in zip(inputs, results):\n        assert candidate(*i) == e\n",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def fixture(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "humanevalplus" / "sample.jsonl"


def test_the_fixtures_reference_passes_and_wrong_answers_fail(fixture: Path, box: Sandbox) -> None:
    (problem,) = answered(load("humanevalplus", fixture), box)
    signed = problem.reference.replace("abs(a - b)", "(b - a)")  # right on the base inputs alone
    near = problem.reference.replace("return sum", "return 1e-7 + sum")
    far = problem.reference.replace("return sum", "return 1e-4 + sum")
    sources = (problem.reference, returns_none(problem.reference), signed, near, far)
    found = results(box, problem, *sources)
    assert [r.verdict.value for r in found] == [
        "passed",
        "wrong_answer",
        "wrong_answer",
        "passed",
        "wrong_answer",
    ]
    assert all(r.verdict_trust == "isolated" for r in found)


def test_groups_say_which_tests_are_base_and_which_plus(fixture: Path, box: Sandbox) -> None:
    (problem,) = answered(load("humanevalplus", fixture), box)
    assert problem.meta["groups"] == {"base": (0, 2), "plus": (2, 5)} and len(problem.tests) == 5
    signed = problem.reference.replace("abs(a - b)", "(b - a)")
    (result,) = box.run([problem.program(signed)], all_tests=True)
    passed = [cell.verdict == "passed" for cell in result.cells]
    low, high = problem.meta["groups"]["base"]
    assert all(passed[low:high]) and not all(passed[high:])


def test_a_problem_is_not_run_before_its_reference_has_answered(fixture: Path) -> None:
    (problem,) = load("humanevalplus", fixture)
    assert problem.tests == ()
    with pytest.raises(ValueError, match="has an oracle"):
        problem.program(problem.reference)


def test_a_completion_is_cut_where_the_next_function_begins(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = answered(load("humanevalplus", write(tmp_path / "h", ROW)), box)
    source = problem.source("    return 2 * x\n\ndef broken(:\n")
    assert source == problem.prompt + "    return 2 * x\n"
    assert verdicts(box, problem, source) == ["passed"]
    assert "```\ndef double(x):" in problem.chat


def test_the_hubs_form_has_its_test_inside(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("humanevalplus", write(tmp_path / "h", HUB))
    assert problem.oracle is None and problem.meta["needs"] == () and problem.limits.cpu_seconds == 20
    assert verdicts(box, problem, problem.reference, returns_none(problem.reference)) == [
        "passed",
        "wrong_answer",
    ]
    numpy = {**HUB, "test": "import numpy as np\n" + HUB["test"]}
    assert load("humanevalplus", write(tmp_path / "n", numpy))[0].meta["needs"] == ("numpy",)


def test_another_zero_of_humaneval_32_is_right_too(tmp_path: Path, shared: Path, box: Sandbox) -> None:
    rows = {row["task_id"]: row for row in read_jsonl(shared / "data" / "humaneval" / "HumanEval.jsonl.gz")}
    row = rows["HumanEval/32"]
    # (x - 1)(x - 2)(x - 3), and x + 4.
    row |= {"base_input": [[[-6, 11, -6, 1]]], "plus_input": [[[4, 1]]], "atol": 1e-4}
    (problem,) = answered(load("humanevalplus", write(tmp_path / "h", row)), box)
    template = "def find_zero(xs):\n    return {} if len(xs) == 4 else -4.0\n"
    sources = [template.format(answer) for answer in (1, 2.0, 3.00001, 2.5, None, "xs")]
    assert (
        verdicts(box, problem, problem.reference, *sources)
        == [*["passed"] * 4, *["wrong_answer"] * 1] + ["runtime_error"] * 2
    )


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "prompt"), "the text field 'prompt' is missing"),
        ({**ROW, "entry_point": "1x"}, "entry_point '1x' is not a name"),
        ({**ROW, "plus_input": "[]"}, "'plus_input' must be a list"),
        (without(ROW, "atol"), "atol must be a number"),
        (without(HUB, "test"), "the text field 'test' is missing"),
        ({**HUB, "test": "assert True"}, r"does not define check\(candidate\)"),
        (ROW, "task id 'HumanEval/1' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "h.jsonl", ROW, row)
    with pytest.raises(CodealignError, match=rf"h\.jsonl:2: .*{why}"):
        load("humanevalplus", path)


def test_a_reference_that_fails_is_named_with_its_input(tmp_path: Path, box: Sandbox) -> None:
    row = {**ROW, "canonical_solution": "    return 2 / x\n", "plus_input": [[0]]}
    with pytest.raises(
        CodealignError, match=r"'HumanEval/1', input 2, \(0,\): the reference itself fails.*Zero"
    ):
        answered(load("humanevalplus", write(tmp_path / "h", row)), box)


def test_there_is_one_split(fixture: Path) -> None:
    assert len(load("humanevalplus", fixture, "test")) == 1
    with pytest.raises(CodealignError, match="only the split 'test', not 'train'"):
        load("humanevalplus", fixture, "train")
    assert json.loads(fixture.read_text())["task_id"] == "HumanEval/900001"
