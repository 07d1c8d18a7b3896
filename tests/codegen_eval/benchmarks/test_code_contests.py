"""CodeContests: three kinds of tests in one problem, solutions that pass and incorrect ones that do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import IOTest, Sandbox, Verdict

ROW = {
    "name": "double",
    "description": "Double it.",
    "public_tests": {"input": ["1\n"], "output": ["2\n"]},
    "private_tests": {"input": ["2\n"], "output": ["4\n"]},
    "generated_tests": {"input": [], "output": []},
    "source": 2,
    "solutions": {"language": [2, 3], "solution": ["int main(){}", "print(2 * int(input()))"]},
    "incorrect_solutions": {"language": [], "solution": []},
    "time_limit": {"seconds": 2, "nanos": 500000000},
    "memory_limit_bytes": 256000000,
    "input_file": "",
    "output_file": "",
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def dataset(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "code_contests" / "sample.jsonl"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def verdicts(box: Sandbox, problem: Problem, *sources: str) -> list[Verdict]:
    return [
        result.verdict for result in box.run([problem.program(problem.source(source)) for source in sources])
    ]


@pytest.mark.sandbox
def test_the_fixtures_solutions_pass_and_its_incorrect_ones_fail(dataset: Path, box: Sandbox) -> None:
    (problem,) = load("code_contests", dataset)
    assert problem.meta["n_tests"] == {"public": 1, "private": 1, "generated": 1}
    assert problem.meta["source"] == "Codeforces" and problem.meta["cf_rating"] == 800
    assert problem.limits is not None and problem.limits.cpu_seconds == 1.5
    right = [source for language, source in problem.meta["solutions"] if language == "python"]
    wrong = [source for language, source in problem.meta["incorrect_solutions"] if language == "python"]
    assert len(right) == 2 and len(wrong) == 1 and problem.canonical_solution == right[0]
    assert verdicts(box, problem, *right) == [Verdict.passed] * 2
    assert verdicts(box, problem, *wrong, right[0].replace("max", "min")) == [Verdict.wrong_answer] * 2


def test_tests_come_in_the_order_public_private_generated_and_compare_tokens(tmp_path: Path) -> None:
    row = {**ROW, "generated_tests": [{"input": "3", "output": "6"}]}  # a list of objects says the same
    (problem,) = load("code_contests", write(tmp_path / "a.jsonl", row))
    assert [(t.stdin, t.expected, t.checker) for t in problem.tests if isinstance(t, IOTest)] == [
        ("1\n", "2\n", "tokens"),
        ("2\n", "4\n", "tokens"),
        ("3", "6", "tokens"),
    ]
    assert problem.canonical_solution == "print(2 * int(input()))"


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"time_limit": None}, None),
        ({"time_limit": {"seconds": 0, "nanos": 0}}, None),
        ({"time_limit": {"seconds": 3}}, (3.0, 12.0, 1024)),
        ({"memory_limit_bytes": 2**32}, (2.5, 10.0, 4096)),
        ({"memory_limit_bytes": None}, (2.5, 10.0, 1024)),
    ],
)
def test_limits_are_the_rows(tmp_path: Path, given: dict[str, Any], limits: tuple[float, ...] | None) -> None:
    (problem,) = load("code_contests", write(tmp_path / "a.jsonl", {**ROW, **given}))
    found = problem.limits
    assert (found and (found.cpu_seconds, found.wall_seconds, found.memory_mb)) == limits


@pytest.mark.sandbox
def test_a_problem_of_files_has_its_input_and_output_in_files(tmp_path: Path, box: Sandbox) -> None:
    files = {"input_file": "in.txt", "output_file": "out.txt"}
    both, one = load(
        "code_contests",
        write(tmp_path / "a.jsonl", {**ROW, **files}, {**ROW, "name": "n", "input_file": "in.txt"}),
    )
    program = "n = int(open('in.txt').read())\nwith open('out.txt', 'w') as f: print(2 * n, file=f)\n"
    assert verdicts(box, both, program, program.replace("2 *", "3 *"), "print(2)") == [
        Verdict.passed,
        Verdict.wrong_answer,
        Verdict.wrong_answer,
    ]
    assert verdicts(box, one, "print(2 * int(open('in.txt').read()))") == [Verdict.passed]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": ""}, "'' is no name"),
        ({"description": None}, "'description' is missing"),
        (
            {"public_tests": {"input": ["1"], "output": []}},
            "public_tests must hold lists input and output of one",
        ),
        ({"public_tests": {"input": ["1"]}}, "lists input and output"),
        ({"private_tests": "x"}, "private_tests must hold lists"),
        ({"private_tests": [1]}, "private_tests must hold texts"),
        ({"generated_tests": {"input": [1], "output": ["1"]}}, "generated_tests must hold texts"),
        ({"solutions": {"language": [9], "solution": ["x"]}}, "language 9 of a solution"),
        ({"solutions": {"language": [[]], "solution": ["x"]}}, "language .. of a solution"),
        ({"solutions": {"language": [3], "solution": [None]}}, "solutions must hold texts"),
        ({"source": "x"}, "source 'x' is no number"),
        ({"time_limit": 5}, "time_limit 5 needs seconds and nanos"),
        ({"time_limit": {"seconds": -1}}, "needs seconds and nanos"),
        ({"memory_limit_bytes": "1"}, "is no number of bytes"),
        ({"name": "double"}, "task id 'double' occurs twice"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "a.jsonl", ROW, {**ROW, "name": "other", **change})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("code_contests", path)


def test_a_row_without_tests_is_left_out_and_splits_are_files(tmp_path: Path) -> None:
    write(tmp_path / "valid.jsonl", ROW, {**ROW, "name": "n", "public_tests": None, "private_tests": None})
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        assert len(load("code_contests", tmp_path, "valid")) == 1
    with pytest.raises(CodealignError, match="no file of test"):
        load("code_contests", tmp_path)
