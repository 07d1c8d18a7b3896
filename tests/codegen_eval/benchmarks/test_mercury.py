"""Mercury: a row's own source judges, in the test's process, answers and what became of the arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from codegen_eval.metrics.efficiency import beyond
from codegen_eval.records import Problem
from sandbox import CodeTest, Result, Sandbox, Verdict

ROW = {
    "slug_name": "reverse",
    "difficulty": "Easy",
    "pretty_content": ["Reverse the list."],
    "prompt": "class Solution(object):\n    def reverse(self, nums: List[int]) -> None:\n        ",
    "solutions": [
        {"runtime": "30 ms", "solution": "class Solution:\n    def reverse(self, nums): nums.reverse()\n"},
        {"runtime": "N/A", "solution": "class Solution: pass"},
    ],
    "convert_offline": "def convert_offline(case):\n    return (case[0],), case[1]\n",
    "evaluate_offline": "def evaluate_offline(inputs, outputs, expected):\n"
    "    return inputs[0] == expected\n",
    "entry_point": "reverse",
    "test_cases": json.dumps([{"input": [1, 2, 3], "expected": [3, 2, 1]}, {"input": [], "expected": []}]),
}
NODES = {
    **ROW,
    "convert_offline": """
def convert_offline(case):
    head = None
    for value in reversed(case[0]):
        head = ListNode(value, head)
    return (head,), case[1]
""",
    "evaluate_offline": """
def evaluate_offline(inputs, outputs, expected):
    found = []
    while outputs is not None:
        found.append(outputs.val)
        outputs = outputs.next
    return found == expected
""",
}
REVERSED = """
class Solution:
    def reverse(self, head: Optional[ListNode]):
        before = None
        while head:
            head.next, before, head = before, head, head.next
        return before
"""


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "mercury"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def results(box: Sandbox, problem: Problem, *completions: str) -> list[Result]:
    return list(box.run([problem.program(problem.source(c)) for c in completions]))


@pytest.mark.sandbox
def test_the_fixtures_solutions_and_generations_have_the_verdicts_that_it_expects(
    folder: Path, box: Sandbox
) -> None:
    (problem,) = load("mercury", folder / "sample.jsonl")
    assert problem.task_id == "count-pairs-with-sum" and problem.entry_point == "Solution.countPairs"
    assert problem.meta["difficulty"] == "Easy" and problem.meta["n_cases"] == 6 and not problem.meta["needs"]
    assert [milliseconds for milliseconds, _ in problem.meta["solutions"]] == [20, 35, 900]
    assert problem.canonical_solution == problem.meta["solutions"][0][1]
    found = results(box, problem, *(source for _, source in problem.meta["solutions"]))
    assert [result.verdict for result in found] == [Verdict.passed] * 3
    (row,) = read_jsonl(folder / "generations.jsonl")
    expected = json.loads((folder / "expected.json").read_text())[problem.task_id]["passed"]
    found = results(box, problem, *row["completions"])
    assert [result.verdict is Verdict.passed for result in found] == expected
    assert all(result.verdict_trust != "forgeable" for result in found)


@pytest.mark.sandbox
def test_beyond_of_the_fixtures_generations_is_in_the_order_that_it_expects(
    folder: Path, box: Sandbox
) -> None:
    (problem,) = load("mercury", folder / "sample.jsonl")
    (row,) = read_jsonl(folder / "generations.jsonl")
    references = [source for _, source in problem.meta["solutions"]]
    rounds = [results(box, problem, *references, *row["completions"]) for _ in range(3)]
    seconds = [min(result.cpu_seconds for result in runs) for runs in zip(*rounds, strict=True)]
    passed = [result.verdict is Verdict.passed for result in rounds[0][3:]]
    assert json.loads((folder / "expected.json").read_text())[problem.task_id]["beyond_order"] == (
        "fast > slow, wrong = 0"
    )
    fast, slow, wrong = beyond(seconds[3:], passed, seconds[:3])  # type: ignore[misc]
    assert fast > 0.5 > slow >= 0 == wrong


@pytest.mark.sandbox
def test_what_a_method_changes_in_its_arguments_is_judged(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", ROW))
    in_place = "class Solution:\n    def reverse(self, nums):\n        {}\n"
    bodies = (
        "nums.reverse()",
        "nums[:] = nums[::-1]; print('x' * 10**7)",
        "return nums[::-1]",
        "nums = nums[::-1]",
    )
    found = results(box, problem, *(in_place.format(body) for body in bodies))
    assert [str(result.verdict) for result in found] == ["passed", "passed", "wrong_answer", "wrong_answer"]


@pytest.mark.sandbox
def test_lists_of_nodes_are_made_in_the_program_and_looked_at_from_the_test(
    tmp_path: Path, box: Sandbox
) -> None:
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", NODES))
    right, same, broken = results(
        box,
        problem,
        REVERSED,
        REVERSED.replace("return before", "return head"),
        REVERSED.replace("head.next,", "", 1),
    )
    assert right.verdict is Verdict.passed, right
    assert same.verdict is Verdict.wrong_answer and broken.verdict is not Verdict.passed


@pytest.mark.sandbox
def test_a_program_cannot_reach_the_judge_and_a_judge_that_fails_is_no_pass(
    tmp_path: Path, box: Sandbox
) -> None:
    attack = "def evaluate_offline(*a): return True\ndef convert_offline(*a): return (), 1\n"
    attack += "def answer_with_arguments(*a): return 1, 1\n"
    attack += "class Solution:\n    def reverse(self, nums): return True\n"
    failing = {
        **ROW,
        "slug_name": "b",
        "evaluate_offline": "def evaluate_offline(i, o, e):\n    return 1 / 0\n",
    }
    first, second = load("mercury", write(tmp_path / "a.jsonl", ROW, failing))
    assert results(box, first, attack)[0].verdict is Verdict.wrong_answer
    liar = "class Yes(list):\n    def __eq__(self, other): return True\n"
    liar += "def list(x): return Yes()\nclass Solution:\n    def reverse(self, nums): return Yes()\n"
    assert results(box, first, liar)[0].verdict is not Verdict.passed
    (broken,) = results(box, second, ROW["solutions"][0]["solution"])  # type: ignore[index]
    assert broken.verdict is Verdict.runtime_error and broken.cause == "test:ZeroDivisionError"


@pytest.mark.sandbox
def test_a_row_that_needs_lctk_runs_in_the_programs_process_and_says_so(tmp_path: Path, box: Sandbox) -> None:
    convert = "# lctk would make a list here\n" + ROW["convert_offline"]  # type: ignore[operator]
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", {**ROW, "convert_offline": convert}))
    assert problem.meta["needs"] == ["lctk"] and problem.tests == (
        CodeTest(problem.tests[0].source, in_process=True),  # type: ignore[union-attr]
    )
    right, wrong = results(
        box, problem, problem.canonical_solution, "class Solution:\n    def reverse(self, n): 1\n"
    )
    assert right.verdict is Verdict.passed and right.verdict_trust == "forgeable"
    assert wrong.verdict is not Verdict.passed


@pytest.mark.sandbox
def test_sortedcontainers_is_named_where_a_row_needs_it_and_there_where_the_sandbox_has_it(
    tmp_path: Path,
) -> None:
    package = pytest.importorskip("sortedcontainers")
    if Path(package.__file__).is_relative_to("/tmp"):
        pytest.skip("packages below /tmp cannot be shown in a box")
    evaluate = "def evaluate_offline(i, o, e):\n    return sortedcontainers.SortedList(i[0]) == sorted(e)\n"
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", {**ROW, "evaluate_offline": evaluate}))
    assert problem.meta["needs"] == ["sortedcontainers"]
    solution = "class Solution:\n    def reverse(self, nums):\n        SortedList(nums)\n"
    with Sandbox(1) as without, Sandbox(1, libraries=("sortedcontainers",)) as having:
        (missing,), (found,) = (results(made, problem, solution) for made in (without, having))
    assert missing.verdict is Verdict.runtime_error and "sorted" in missing.message.lower()
    assert found.verdict is Verdict.passed, found


def test_a_completion_is_cut_where_a_model_goes_on_with_another_question(tmp_path: Path) -> None:
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", ROW))
    assert problem.source("class Solution: 1\n### Question:\nx") == problem.source("class Solution: 1")


def test_the_fastest_by_the_platforms_clock_is_canonical(tmp_path: Path) -> None:
    solutions = [{"runtime": text, "solution": text} for text in ("?", "20.5 ms", "9 ms", "9ms", "100 ms")]
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", {**ROW, "solutions": solutions}))
    assert problem.canonical_solution == "9 ms"
    assert [milliseconds for milliseconds, _ in problem.meta["solutions"]] == [None, 20.5, 9, 9, 100]
    (problem,) = load("mercury", write(tmp_path / "a.jsonl", {**ROW, "solutions": []}))
    assert problem.canonical_solution == "" and problem.reference == ""


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"slug_name": None}, "'slug_name' is missing"),
        ({"entry_point": "a b"}, "entry_point 'a b' is not a name"),
        ({"test_cases": "{"}, "'test_cases' is not valid JSON"),
        ({"test_cases": '[{"input": 1}]'}, "objects with input and expected"),
        ({"convert_offline": "x = 1"}, r"convert_offline does not define convert_offline\(\)"),
        ({"evaluate_offline": None}, "'evaluate_offline' is missing"),
        ({"solutions": [5]}, "objects with a solution"),
        ({"solutions": {}}, "'solutions' must be a list"),
        ({"pretty_content": []}, "pretty_content must be a list"),
        ({"prompt": None}, "'prompt' is missing"),
        ({"slug_name": "reverse"}, "task id 'reverse' occurs twice"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "a.jsonl", ROW, {**ROW, "slug_name": "other", **change})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("mercury", path)


def test_splits_are_files_and_rows_without_cases_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "eval.jsonl", ROW, {**ROW, "slug_name": "b", "test_cases": "[]"})
    with pytest.warns(UserWarning, match="1 of 2 rows"):
        assert len(load("mercury", tmp_path)) == 1
    with pytest.raises(CodealignError, match="no file of train"):
        load("mercury", tmp_path, "train")
    with pytest.raises(CodealignError, match="splits eval, train"):
        load("mercury", tmp_path, "test")
