"""NaturalCodeBench's Python tasks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.naturalcodebench import code_of, needs_pytest
from codegen_eval.benchmarks.needs import missing_libraries
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import results, showing, verdicts, without, write

pytestmark = pytest.mark.sandbox
PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging")
ROW = {
    "_id": 1,
    "prompt": "Write `add`.",
    "problem": "Write `add`.",
    "testcases": """
import os

def test_alone():
    assert add(1, 2) == 3

class TestAdd:
    def test_prints(self, capsys):
        print("before")
        assert capsys.readouterr().out == "before\\n"
        os.write(2, b"low")
        add(0, 0)
        assert capsys.readouterr() == ("", "low")

    def test_file(self, tmp_path, capfd):
        path = tmp_path / "a.txt"
        path.write_text("3")
        assert add(int(path.read_text()), 1) == 4
        assert len(os.listdir(tmp_path)) == 1

    def helper(self):
        assert False

    def test_reads_input(self):
        assert add_input() == 1
""",
    "setup_code": "",
    "reference_solution": "```python\ndef add(a, b):\n    return a + b\n\n"
    "def add_input():\n    return int(input())\n```",
    "classification": "Algorithm",
}
FIXTURES = {
    **ROW,
    "_id": 2,
    "testcases": """
class TestAdd:
    @pytest.fixture
    def three(self):
        return 3

    @pytest.mark.parametrize("x", [1, 2])
    def test_add(self, x, three):
        assert add(x, three) == x + 3 and add(0.1, 0.2) == pytest.approx(0.3)

    def test_raises(self, monkeypatch):
        with pytest.raises(TypeError):
            add(1, "x")
""",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "naturalcodebench"


def test_the_fixtures_responses_pass_or_fail_as_it_says(folder: Path, box: Sandbox) -> None:
    (problem,) = load("naturalcodebench", folder / "sample_python_en.jsonl")
    responses = [row["response"] for row in read_jsonl(folder / "responses_python_en.jsonl")]
    found = results(box, problem, problem.reference, *[problem.source(code_of(text)) for text in responses])
    expected = json.loads((folder / "expected.json").read_text())
    assert [result.verdict == "passed" for result in found] == [True, *expected["900001"]]
    assert all(result.verdict_trust == "forgeable" for result in found)
    assert problem.meta["extraction"] == "first" and problem.meta["needs"] == ()


def test_functions_methods_and_fixtures_of_a_plain_file_run_without_pytest(
    tmp_path: Path, box: Sandbox
) -> None:
    (problem,) = load("naturalcodebench", write(tmp_path / "n", ROW))
    assert missing_libraries(problem) == ()
    changes = (("a + b", "a + b + (a == 3)"), ("a + b", "print(a) or a + b"), ("int(input())", "2"))
    wrong = [problem.reference.replace(*change) for change in changes]
    assert verdicts(box, problem, problem.reference, *wrong) == ["passed", *["wrong_answer"] * 3]


def test_what_the_tests_define_does_not_reach_the_program(tmp_path: Path, box: Sandbox) -> None:
    text = "def helper(x): return 0\n\ndef test_it():\n    assert add(1, 2) == 3 and helper(1) == 0\n"
    (problem,) = load("naturalcodebench", write(tmp_path / "n", {**ROW, "testcases": text}))
    source = problem.source("def helper(x): return x\ndef add(a, b): return helper(a) + b")
    assert verdicts(box, problem, source) == ["passed"]


def test_a_file_without_tests_does_not_pass(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("naturalcodebench", write(tmp_path / "n", {**ROW, "testcases": "x = 1"}))
    assert verdicts(box, problem, problem.reference) == ["wrong_answer"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("class TestA:\n    def test_a(self, capfd): pass\n    def other(self, x): pass", False),
        ("class TestA:\n    def test_a(self, monkeypatch): pass", True),
        ("class TestA(unittest.TestCase):\n    def test_a(self): pass", True),
        ("class TestA:\n    def setup_method(self): pass", True),
        ("def test_a(): pytest.raises(KeyError)", True),
        ("@patch('x')\ndef test_a(): pass", True),
        ("async def test_a(): pass", True),
        ("def test_a(", True),
    ],
)
def test_all_but_plain_files_are_left_to_pytest(text: str, wanted: bool) -> None:
    assert needs_pytest(text) is wanted


def test_what_needs_pytest_says_so(tmp_path: Path) -> None:
    (problem,) = load("naturalcodebench", write(tmp_path / "n", FIXTURES))
    assert missing_libraries(problem) == ("pytest",) and missing_libraries(problem, PYTEST) == ()


def test_pytest_itself_runs_in_the_box_where_it_is_shown(tmp_path: Path) -> None:
    skipped = {**FIXTURES, "_id": 3, "testcases": "def test_a():\n    pytest.skip('not now')\n"}
    problem, skips = load("naturalcodebench", write(tmp_path / "n", FIXTURES, skipped))
    with showing(*PYTEST) as box:
        wrong = problem.reference.replace("a + b", "a + b if a < 2 else 0")
        catches = problem.reference.replace("return a + b", "return a + b if b != 'x' else 0")
        found = results(box, problem, problem.reference, wrong, catches, problem.source(""))
        assert [result.verdict.value for result in found] == ["passed", *["wrong_answer"] * 3]
        assert "test_add[2" in found[1].message and "DID NOT RAISE" in found[2].message
        assert verdicts(box, skips, skips.reference) == ["wrong_answer"]


@pytest.mark.parametrize(
    ("response", "wanted"),
    [
        ("a ```python\nx = 1\n``` b ```python\nx = 2\n```", "x = 1"),
        ("a ```\nx = 1\n``` b", "x = 1"),
        ("```\nno\n```\n```python\nyes\n```", "yes"),
        ("[Python]\nx = 1\n[/Python]", "\nx = 1\n"),
        ("[Python]\n```python\nx = 1\n```\n[/Python]", "x = 1"),
        ("[Python]\nx = 1\n```", "\nx = 1\n"),
        ("[Python]\nx = 1\n", "\nx = 1\n"),
        ("Well: import re\ndef f(): pass", "import re\ndef f(): pass"),
        ("def f(): pass\nclass A: pass", "def f(): pass\nclass A: pass"),
        ("```python x = 1```", ""),
        ("I cannot do that.", ""),
        ("", ""),
    ],
)
def test_the_code_of_a_response_is_its_first_block(response: str, wanted: str) -> None:
    assert code_of(response) == wanted


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "setup_code"), "the text field 'setup_code' is missing"),
        ({**ROW, "_id": "1"}, "the whole number '_id' is '1'"),
        ({**ROW, "testcases": None}, "the text field 'testcases' is None"),
        (ROW, "task id 'NaturalCodeBench/1' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "n.jsonl", ROW, row)
    with pytest.raises(CodealignError, match=rf"n\.jsonl:2: .*{why}"):
        load("naturalcodebench", path)


def test_java_tasks_are_refused(folder: Path) -> None:
    with pytest.raises(CodealignError, match=r"sample_java_en\.jsonl:1: a Java task, which needs JUnit"):
        load("naturalcodebench", folder / "sample_java_en.jsonl")
