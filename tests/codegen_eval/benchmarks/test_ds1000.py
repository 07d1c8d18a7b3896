"""DS-1000: fragments that go where a context says [insert]."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.needs import missing_libraries
from codegen_eval.errors import CodealignError
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import results, showing, verdicts, without, write

pytestmark = pytest.mark.sandbox
CONTEXT = '''
exec_context = r"""
import bisect
xs = test_input
[insert]
"""


def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for test_input, expected in (([3, 1], [1, 3]), ([], [])):
        env = {"test_input": test_input}
        exec(code, env)
        assert env["result"] == expected
'''
ROW = {
    "prompt": "Sort xs.\nresult = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n",
    "reference_code": "result = sorted(xs)",
    "metadata": {"problem_id": 5, "library": "Pytorch", "perturbation_type": "Surface"},
    "code_context": CONTEXT + "\n\ndef test_string(solution: str):\n    assert 'while' not in solution\n",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def fixture(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "ds1000" / "sample.jsonl"


def test_the_fixtures_reference_passes_with_numpy_and_wrong_answers_fail(fixture: Path) -> None:
    (problem,) = load("ds1000", fixture)
    loop = "result = a.copy()\nfor i in range(len(a) - 2, -1, -1): result[i] += result[i + 1]"
    answers = ("result = a.cumsum(axis=0)", "result = None", loop)
    with showing("numpy") as box:
        found = results(box, problem, problem.reference, *map(problem.source, answers))
    assert [result.verdict.value for result in found] == ["passed", *["wrong_answer"] * 3]
    assert all(result.verdict_trust == "forgeable" for result in found)


def test_a_task_whose_library_is_not_there_is_seen_and_not_failed(fixture: Path, tmp_path: Path) -> None:
    (problem,) = load("ds1000", fixture)
    assert missing_libraries(problem) == ("numpy",) and missing_libraries(problem, ["numpy"]) == ()
    assert problem.meta["library"] == "Numpy" and problem.meta["perturbation_type"] == "Origin"
    assert load("ds1000", write(tmp_path / "d", ROW))[0].meta["needs"] == ("torch",)


def test_an_answer_is_inserted_and_its_text_is_looked_at(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("ds1000", write(tmp_path / "d", ROW))
    answers = (
        "result = []\nfor x in xs:\n    bisect.insort(result, x)\n</code>\nEND SOLUTION",
        'result = sorted(xs)  # \'quoted\' """ \\n \\\n',
        "result = sorted(xs)  # no while",
        "result = xs",
        "result = (",
        "import sys; sys.exit(0)",
        "",
    )
    assert verdicts(box, problem, *map(problem.source, answers)) == [
        *["passed"] * 2,
        *["wrong_answer"] * 2,
        *["runtime_error"] * 3,
    ]


def test_without_test_string_only_the_execution_counts(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("ds1000", write(tmp_path / "d", {**ROW, "code_context": CONTEXT}))
    assert verdicts(box, problem, problem.source("result = sorted(xs)  # no while")) == ["passed"]


def test_a_chat_model_is_asked_for_code_in_tags(tmp_path: Path) -> None:
    (problem,) = load("ds1000", write(tmp_path / "d", ROW))
    assert problem.chat.startswith("Write a short code") and problem.chat.endswith(ROW["prompt"])  # type: ignore[arg-type]
    assert problem.task_id == "DS-1000/5" and not problem.continues


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "code_context"), "the text field 'code_context' is missing"),
        ({**ROW, "code_context": "x = 1"}, r"code_context does not define test_execution\(solution\)"),
        ({**ROW, "metadata": "{}"}, "metadata must be an object, got '{}'"),
        ({**ROW, "metadata": {"problem_id": 1}}, "the text field 'library' is missing"),
        ({**ROW, "metadata": {"library": "Numpy"}}, "the whole number 'problem_id' is missing"),
        (ROW, "task id 'DS-1000/5' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "d.jsonl", ROW, row)
    with pytest.raises(CodealignError, match=rf"d\.jsonl:2: .*{why}"):
        load("ds1000", path)
