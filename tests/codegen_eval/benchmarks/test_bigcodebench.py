"""BigCodeBench, complete and instruct."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS, load
from codegen_eval.benchmarks.needs import missing_libraries
from codegen_eval.errors import CodealignError
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import results, returns_none, verdicts, without, write

pytestmark = pytest.mark.sandbox
TEST = """
import unittest
from unittest.mock import patch

class TestCases(unittest.TestCase):
    def setUp(self):
        with open("numbers.txt", "w") as file:
            file.write("1 2")

    def test_patched(self):
        with patch("random.randint", return_value=4):
            self.assertEqual(task_func("numbers.txt"), 7)

    def test_error(self):
        with self.assertRaises(FileNotFoundError):
            task_func("nothing")

    def test_subtests(self):
        for path in ("numbers.txt", "./numbers.txt"):
            with self.subTest(path=path):
                self.assertGreater(task_func(path), 3)
"""
HEAD = "import random\n\ndef task_func(path):\n"
ROW = {
    "task_id": "BigCodeBench/1",
    "complete_prompt": HEAD + '    """Sum of the numbers in a file, and a die."""\n',
    "instruct_prompt": "Sum the numbers in a file, and a die.",
    "canonical_solution": "    with open(path) as file:\n"
    "        return sum(map(int, file.read().split())) + random.randint(1, 6)",
    "code_prompt": HEAD,
    "test": TEST,
    "entry_point": "task_func",
    "libs": "['random', 'pandas']",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def fixture(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "bigcodebench" / "sample.jsonl"


@pytest.mark.parametrize("name", ["bigcodebench", "bigcodebench_instruct"])
def test_the_fixtures_reference_passes_and_wrong_answers_fail(fixture: Path, name: str, box: Sandbox) -> None:
    (problem,) = load(name, fixture)
    cased = problem.reference.replace(".lower()", "")
    found = results(box, problem, problem.reference, returns_none(problem.reference), cased)
    assert [result.verdict.value for result in found] == ["passed", "wrong_answer", "wrong_answer"]
    assert all(result.verdict_trust == "forgeable" for result in found)
    assert problem.meta["needs"] == ()


def test_the_two_forms_ask_differently_and_run_the_same_tests(fixture: Path) -> None:
    (complete,), (instruct,) = (load(name, fixture) for name in ("bigcodebench", "bigcodebench_instruct"))
    assert complete.continues and complete.prompt.startswith("import re\n") and complete.stop
    assert not instruct.continues and instruct.prompt == instruct.chat and instruct.prompt.startswith("Count")
    assert complete.tests == instruct.tests and complete.reference == instruct.reference
    assert {"bigcodebench", "bigcodebench_instruct"} <= set(BENCHMARKS.names())


def test_tests_that_patch_write_files_and_expect_errors_run(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("bigcodebench", write(tmp_path / "b", ROW))
    low = problem.reference.replace("random.randint(1, 6)", "(path == 'numbers.txt') * random.randint(1, 1)")
    swallowed = problem.reference.replace("open(path)", "open('numbers.txt')")
    found = results(box, problem, problem.reference, low, swallowed)
    assert [result.verdict.value for result in found] == ["passed", "wrong_answer", "wrong_answer"]
    assert "test_error: AssertionError: FileNotFoundError not raised" in found[2].message


def test_an_error_in_a_test_is_no_wrong_answer_and_names_the_test(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("bigcodebench", write(tmp_path / "b", ROW))
    source = problem.source(None, "def task_func(path):\n    import pandas\n")
    (result,) = results(box, problem, source)
    assert result.verdict == "runtime_error"
    assert "test_error: ModuleNotFoundError: No module named 'pandas'" in result.message


def test_calibrated_a_forgotten_import_does_not_fail_an_answer(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("bigcodebench_instruct", write(tmp_path / "b", ROW))
    body = "def task_func(path):\n" + ROW["canonical_solution"]  # type: ignore[operator]
    uses_os = body.replace("open(path)", "open(os.path.join('.', path))")
    assert verdicts(box, problem, problem.source(body), problem.source(uses_os)) == ["passed", "passed"]


def test_an_answer_without_the_function_does_not_pass_by_the_empty_one(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("bigcodebench_instruct", write(tmp_path / "b", ROW))
    sources = [problem.source(text) for text in ("", "x = 1", "del task_func", "def task_func(path): (")]
    assert "passed" not in verdicts(box, problem, *sources)


def test_a_class_whose_tests_are_gone_does_not_pass(tmp_path: Path, box: Sandbox) -> None:
    row = {**ROW, "test": "import unittest\nclass TestCases(unittest.TestCase):\n    pass\n"}
    (problem,) = load("bigcodebench", write(tmp_path / "b", row))
    (result,) = results(box, problem, problem.reference)
    assert result.verdict == "wrong_answer" and "no test was run" in result.message


def test_libraries_come_from_the_row_and_from_what_is_imported(tmp_path: Path) -> None:
    row = {**ROW, "test": "import numpy as np\n" + TEST, "libs": ["sklearn", "re"]}
    (problem,) = load("bigcodebench", write(tmp_path / "b", row))
    assert problem.meta["needs"] == ("numpy", "sklearn")
    assert missing_libraries(problem, ["numpy"]) == ("sklearn",)


def test_a_version_is_the_file_with_it_in_its_name(tmp_path: Path) -> None:
    write(tmp_path / "v0.1.3.jsonl", ROW)
    write(tmp_path / "v0.1.4.jsonl", {**ROW, "task_id": "BigCodeBench/2"})
    (problem,) = load("bigcodebench", tmp_path, "v0.1.4")
    assert problem.task_id == "BigCodeBench/2"
    with pytest.raises(CodealignError, match=r"nothing of split 'v0.2', there is v0\.1\.3\.jsonl"):
        load("bigcodebench", tmp_path, "v0.2")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "code_prompt"), "the text field 'code_prompt' is missing"),
        ({**ROW, "libs": "['re'"}, r"libs \"\['re'\" is not a list of texts"),
        ({**ROW, "libs": 3}, "'libs', a list of texts, is 3"),
        ({**ROW, "test": "class Other: pass"}, "the test does not define the class TestCases"),
        ({**ROW, "test": "class TestCases("}, "the test is not Python"),
        ({**ROW, "entry_point": "a b"}, "entry_point 'a b' is not a name"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "b.jsonl", {**ROW, "task_id": "BigCodeBench/0"}, row)
    with pytest.raises(CodealignError, match=rf"b\.jsonl:2: .*{why}"):
        load("bigcodebench", path)
