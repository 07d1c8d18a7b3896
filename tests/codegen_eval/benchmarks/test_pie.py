"""PIE: pairs of programs of both releases, judged on tests in files beside the data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import IOTest, LanguageUnavailable, Sandbox, Verdict
from sandbox.languages import get

ROW = {
    "problem_id": "p1",
    "language": "python",
    "submission_id_v0": "s1",
    "submission_id_v1": "s2",
    "input": "print(sum([int(input())] * 2))",
    "target": "print(2 * int(input()))",
}


def write(path: Path, *rows: dict[str, Any], tests: int = 2) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = path.parent / "merged_test_cases" / "p1"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(tests):
        (folder / f"input.{number}.txt").write_text(f"{number}\n")
        (folder / f"output.{number}.txt").write_text(f"{2 * number}\n")
    return path


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "pie"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def verdicts(box: Sandbox, problem: Problem, *sources: str) -> list[Verdict]:
    return [
        result.verdict for result in box.run([problem.program(problem.source(source)) for source in sources])
    ]


@pytest.mark.sandbox
def test_the_first_releases_programs_pass_and_a_pair_that_occurs_twice_is_one(
    folder: Path, box: Sandbox
) -> None:
    with pytest.warns(UserWarning, match="pie: 1 of 2 rows have an earlier row's programs"):
        (problem,) = load("pie", folder / "sample_python_v1.jsonl")
    assert problem.task_id == "p90001/s900000001-s900000002" and problem.language == "python"
    assert problem.meta["cpu_time_v0"] == 900 and problem.meta["problem_id"] == "p90001"
    assert problem.meta["input"] in problem.prompt and problem.canonical_solution not in problem.prompt
    slow, fast = problem.meta["input"], problem.canonical_solution
    assert verdicts(box, problem, slow, fast) == [Verdict.passed] * 2
    assert (
        verdicts(box, problem, slow.replace("range(i)", "range(n)"), "print(1)") == [Verdict.wrong_answer] * 2
    )


@pytest.mark.sandbox
def test_the_second_releases_programs_are_compiled(folder: Path, box: Sandbox) -> None:
    (problem,) = load("pie", folder / "sample_cpp_v2.jsonl")
    assert problem.task_id == "p90001/s900000011-s900000012" and problem.language == "cpp"
    assert problem.meta["pctile"] == 10 and len(problem.tests) == 2
    try:
        get("cpp").toolchain()
    except LanguageUnavailable as error:
        pytest.skip(str(error))
    slow, fast = problem.meta["input"], problem.canonical_solution
    found = verdicts(box, problem, slow, fast, slow.replace("j<i", "j<=i"), "int main(")
    assert found == [Verdict.passed, Verdict.passed, Verdict.wrong_answer, Verdict.syntax_error]


def test_tests_are_those_that_the_row_names_or_all_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        ROW,
        {**ROW, "submission_id_v1": "s3", "target": "x", "tests": [11, 2]},
        tests=12,
    )
    first, second = load("pie", path)
    inputs = [[test.stdin for test in p.tests if isinstance(test, IOTest)] for p in (first, second)]
    assert inputs == [[b"%d\n" % n for n in range(12)], [b"11\n", b"2\n"]]
    assert all(isinstance(test, IOTest) and test.checker == "float_lines" for test in first.tests)


def test_tests_of_the_first_folder_come_before_those_of_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROW, tests=1)
    other = tmp_path / "public_test_cases" / "p1"
    shutil.copytree(tmp_path / "merged_test_cases" / "p1", other)
    (other / "input.0.txt").write_text("99")
    (other / "input.5.txt").write_text("5")
    (other / "output.5.txt").write_text("10")
    (problem,) = load("pie", path)
    assert [test.stdin for test in problem.tests if isinstance(test, IOTest)] == [b"0\n", b"5"]


@pytest.mark.sandbox
def test_a_thousandth_is_forgiven_a_line_and_extra_lines_are_not(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("pie", write(tmp_path / "a.jsonl", ROW, tests=1))
    found = verdicts(box, problem, "print(0.0005)", "print(0.01)", "print(0); print(1)", "print(0, end='')")
    assert [verdict is Verdict.passed for verdict in found] == [True, False, False, True]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"problem_id": "../p1"}, "'../p1' is no name of a folder"),
        ({"problem_id": ".."}, "'..' is no name of a folder"),
        ({"language": "rust"}, "language 'rust' is none of python"),
        ({"input": None}, "'input' is missing"),
        ({"target": 5}, "'target' is a int"),
        ({"submission_id_v0": None}, "needs src_id or submission_id_v0"),
        ({"tests": [7]}, r"test 7 of problem 'p1' is missing: .*merged_test_cases/p1/input\.7\.txt"),
        ({"tests": ["0"]}, "tests must be a list of numbers"),
        ({"tests": "all"}, "'tests' must be a list"),
        ({"submission_id_v1": "s2"}, "task id 'p1/s1-s2' occurs twice"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    second = {**ROW, "submission_id_v1": "s3", "target": "print(int(input()) * 2)"}
    path = write(tmp_path / "a.jsonl", ROW, {**second, **change})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("pie", path)


def test_a_test_without_its_output_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROW)
    (tmp_path / "merged_test_cases" / "p1" / "output.1.txt").unlink()
    with pytest.raises(CodealignError, match=r"a\.jsonl:1: .*input\.1\.txt has no output\.1\.txt beside it"):
        load("pie", path)


def test_rows_whose_two_programs_are_equal_or_without_tests_are_left_out(tmp_path: Path) -> None:
    same = {**ROW, "submission_id_v1": "s4", "target": ROW["input"]}
    lone = {**ROW, "problem_id": "p2"}
    lone["target"] = "print(0)"
    path = write(tmp_path / "test.jsonl", ROW, same, lone)
    with pytest.warns(UserWarning) as said:
        problems = load("pie", path.parent)
    assert [p.task_id for p in problems] == ["p1/s1-s2"]
    assert [str(w.message)[:18] for w in said] == ["pie: 1 of 3 rows h", "pie: 1 of 2 rows c"]
