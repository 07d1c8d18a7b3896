"""EffiBench: the benchmark's asserts on a class of the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from sandbox import Result, Sandbox, Verdict

ROW = {
    "problem_idx": 1,
    "description": "Add.",
    "canonical_solution": "class Solution:\n"
    "    def add(self, a: List[int], b):\n        return [x + b for x in a]\n",
    "small_test_cases": "assert solution.add([1], 1) == [2]",
    "test_case": "assert solution.add([1, 2], 1) == [2, 3]\nassert solution.add([], 1) == []\n",
}
IN_PLACE = {
    **ROW,
    "canonical_solution": "class Solution:\n    def add(self, a, b):\n        a[:] = [x + b for x in a]\n",
    "test_case": "a = [1, 2]\nsolution.add(a, 1)\nassert a == [2, 3]\n",
}
NODES = {
    **ROW,
    "canonical_solution": "class Solution:\n"
    "    def add(self, a, b):\n        return ListNode(a.val + b, a.next)\n",
    "test_case": "head = ListNode(1, ListNode(5))\nfound = solution.add(head, 1)\n"
    "assert found.val == 2 and found.next.val == 5 and found.next.next is None\n",
}
DESIGN = {
    **ROW,
    "canonical_solution": "class Stack:\n    def __init__(self): self.s = []\n"
    "    def push(self, x): self.s.append(x)\n"
    "    def pop(self): return self.s.pop()\nclass Solution: pass\n",
    "test_case": "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2\nassert s.pop() == 1\n",
}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def dataset(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "effibench" / "sample.jsonl"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def results(box: Sandbox, problem: Problem, *completions: str) -> list[Result]:
    return list(box.run([problem.program(problem.source(c)) for c in completions]))


@pytest.mark.sandbox
def test_the_fixtures_solution_passes_and_mutants_fail(dataset: Path, box: Sandbox) -> None:
    (problem,) = load("effibench", dataset)
    assert problem.task_id == "EffiBench/900001" and problem.entry_point == "Solution.countPairs"
    assert problem.limits is not None and problem.limits.cpu_seconds == 5 and not problem.meta["forgeable"]
    source = problem.canonical_solution
    right, wrong, bare = results(
        box,
        problem,
        source,
        source.replace("seen[x] += 1", "seen[x] = 1"),
        source.replace("class Solution", "class S"),
    )
    assert right.verdict is Verdict.passed and right.verdict_trust != "forgeable"
    assert wrong.verdict is Verdict.wrong_answer
    assert bare.verdict is Verdict.runtime_error  # a completion must have class Solution


@pytest.mark.sandbox
@pytest.mark.parametrize("row", [ROW, NODES, DESIGN, IN_PLACE], ids=["data", "nodes", "design", "in place"])
def test_references_of_every_kind_pass_and_mutants_fail(
    tmp_path: Path, row: dict[str, Any], box: Sandbox
) -> None:
    (problem,) = load("effibench", write(tmp_path / "a.jsonl", row))
    source = problem.canonical_solution
    mutant = source.replace("+ b", "- b").replace("self.s.pop()", "self.s.pop(0)")
    right, wrong = results(box, problem, source, mutant)
    assert right.verdict is Verdict.passed, right
    assert wrong.verdict is Verdict.wrong_answer, wrong
    assert problem.meta["forgeable"] is (row is IN_PLACE) is (right.verdict_trust == "forgeable")


@pytest.mark.sandbox
def test_an_answer_that_equals_everything_does_not_pass(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("effibench", write(tmp_path / "a.jsonl", ROW))
    yes = "class Yes:\n    def __eq__(self, other): return True\n"
    (result,) = results(box, problem, yes + "class Solution:\n    def add(self, a, b): return Yes()\n")
    assert result.verdict is not Verdict.passed


def test_a_json_array_is_read_and_a_class_without_a_called_method_is_the_entry_point(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps([ROW, {**DESIGN, "problem_idx": 2}]))
    first, second = load("effibench", tmp_path / "dataset.json")
    assert (first.entry_point, second.entry_point) == ("Solution.add", "Solution")
    assert "Add." in first.prompt and "assert solution.add([1], 1)" in first.prompt
    assert first.meta["extraction"] == "first"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"problem_idx": None}, "needs a problem_idx"),
        ({"problem_idx": True}, "needs a problem_idx"),
        ({"test_case": "assert ("}, "test_case is no Python source"),
        ({"test_case": "x = '\0'"}, "test_case is no Python source"),
        ({"test_case": "(" * 10_000}, "test_case is no Python source"),
        ({"canonical_solution": "def f(): pass"}, "no class Solution"),
        ({"description": None}, "'description' is missing"),
        ({"problem_idx": 1}, "task id 'EffiBench/1' occurs twice"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "a.jsonl", ROW, {**ROW, "problem_idx": 2, **change})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("effibench", path)


def test_a_row_without_asserts_is_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        path = write(tmp_path / "a.jsonl", ROW, {**ROW, "problem_idx": 2, "test_case": " "})
        assert len(load("effibench", path)) == 1
