"""APPS: what the released judge accepts passes under `apps`, and under `apps_strict` only what is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import BENCHMARKS, load
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl
from codegen_eval.records import Problem
from sandbox import CodeTest, IOTest, Sandbox, Verdict


def row(number: int = 1, **pairs: Any) -> dict[str, Any]:
    return {"problem_id": number, "question": "Q", "solutions": "", "input_output": json.dumps(pairs)}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def dataset(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "apps" / "sample.jsonl"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


def verdict(box: Sandbox, problem: Problem, completion: str) -> str:
    (result,) = box.run([problem.program(problem.source(completion))])
    return str(result.verdict)


@pytest.mark.sandbox
@pytest.mark.parametrize("name", ["apps", "apps_strict"])
def test_the_fixtures_solutions_pass_and_mutants_fail(dataset: Path, name: str, box: Sandbox) -> None:
    with pytest.warns(UserWarning, match="apps: 1 of 3 rows cannot be judged"):
        problems = load(name, dataset)
    solutions = {row["problem_id"]: json.loads(row["solutions"] or "[]") for row in read_jsonl(dataset)}
    assert [p.task_id for p in problems] == ["APPS/900001", "APPS/900002"]
    for problem in problems:
        assert problem.meta["solutions"] == solutions[int(problem.task_id[5:])]
        for source in problem.meta["solutions"]:
            mutant = source.replace("max(", "min(").replace("sum(", "1 + sum(")
            assert verdict(box, problem, source) == "passed"
            assert verdict(box, problem, mutant) == "wrong_answer"
        assert verdict(box, problem, "pass") != "passed"


def test_rows_become_problems_of_both_kinds(dataset: Path) -> None:
    with pytest.warns(UserWarning):
        call, stdin = load("apps", dataset)
    assert call.entry_point == "count_pairs" and not stdin.entry_point
    assert all(isinstance(test, CodeTest) and test.trusted for test in call.tests)
    assert all(isinstance(test, IOTest) and test.checker == "apps" for test in stdin.tests)
    assert call.limits is not None and call.limits.cpu_seconds == 4
    assert call.meta["difficulty"] == "introductory" and not call.continues
    assert call.prompt.startswith("\nQUESTION:\n") and call.prompt.endswith(
        "Use Call-Based format\nANSWER:\n"
    )
    assert stdin.prompt.endswith("Use Standard Input format\nANSWER:\n") and call.canonical_solution


OUTPUTS = [  # printed, under apps, under apps_strict
    ("1 2\n3", True, True),
    ("1.0 2\n3 ", True, True),
    ("2 1\n3", True, False),
    ("3\n1 2", True, False),
    ("1 2 2\n3\n3", True, False),
    ("1 2.0001\n3", True, False),
    ("1 2 3", False, False),
    ("1 2\n4", False, False),
]


@pytest.mark.sandbox
def test_the_two_judges_differ_where_the_released_one_is_loose(tmp_path: Path, box: Sandbox) -> None:
    path = write(tmp_path / "a.jsonl", row(inputs=["x"], outputs=["1 2\n3\n"]))
    loose, strict = (load(name, path)[0] for name in ("apps", "apps_strict"))
    for printed, under_apps, under_strict in OUTPUTS:
        program = f"print({printed!r})"
        assert (verdict(box, loose, program) == "passed") is under_apps, printed
        assert (verdict(box, strict, program) == "passed") is under_strict, printed


CALLS = [  # expected, answer, under apps, under apps_strict
    ([1, 2], "[1, 2]", True, True),
    ([1, 2], "(1, 2)", True, True),
    ([1, 2], "1", True, False),  # the released judge takes the first item for right
    ([[1, 2]], "[1, 2]", True, True),  # nested once too deep
    ([[1, 2]], "[[1, 2]]", True, True),
    ([5], "5", True, True),
    ([[[1, 2]]], "[(1, 2)]", True, False),
    ([1, 2], "[2, 1]", False, False),
    (3, "3", True, True),
    (3, "4", False, False),
    ("a", "'a'", True, True),
    ([], "[]", True, True),
    ([], "None", False, False),
    ({"1": "x", "2": "y"}, "{1: 'x', 2: 'y'}", True, True),
    ([{"1": "x"}], "{1: 'x'}", True, True),
    ({"a": 1}, "{'a': 1}", True, True),
    (None, "None", True, True),
    (10**5000, "10 ** 5000", True, True),
    ([10**5000, {"k": [1.5]}], "[10 ** 5000, {'k': [1.5]}]", True, True),
    (1.5, "float('nan')", False, False),
]


@pytest.mark.sandbox
@pytest.mark.parametrize(("name", "column"), [("apps", 2), ("apps_strict", 3)])
def test_answers_of_calls_are_compared_as_each_judge_says(
    tmp_path: Path, name: str, column: int, box: Sandbox
) -> None:
    for number, case in enumerate(CALLS):
        text = f'{{"fn_name": "f", "inputs": [[1]], "outputs": [{encoded(case[0])}]}}'
        path = write(tmp_path / "a.jsonl", {**row(number), "input_output": text})
        program = f"def f(x):\n    return {case[1]}\n"
        assert (verdict(box, load(name, path)[0], program) == "passed") is case[column], case[:2]


def encoded(value: Any) -> str:
    """JSON, with a huge number written out (json.dumps refuses it)."""
    huge = "1" + "0" * 5000
    if value == 10**5000:
        return huge
    if isinstance(value, list) and value and value[0] == 10**5000:
        return f"[{huge}, {json.dumps(value[1])}]"
    return json.dumps(value)


@pytest.mark.sandbox
def test_classes_preludes_dict_keys_and_lists_of_lines_are_handled(tmp_path: Path, box: Sandbox) -> None:
    path = write(
        tmp_path / "a.jsonl",
        row(1, fn_name="f", inputs=[[{"1": 2}], [{"3": 4}]], outputs=[2, 4]),
        row(2, inputs=[["1", "2"]], outputs=[["3", "4"]]),
        row(3, inputs=[5], outputs=[6]),
    )
    call, lines, numbers = load("apps_strict", path)
    method = "class Solution:\n    def f(self, d: List[int]):\n        return d.get(1, 0) + d.get(3, 0)\n"
    assert verdict(box, call, method) == "passed"
    assert (
        verdict(box, call, "def f(d): return next(iter(Counter(d).values())) if 1 in d or 3 in d else 0")
        == "passed"
    )
    assert verdict(box, call, "def f(d): return 2") == "wrong_answer"
    assert verdict(box, call, "def g(d): return 2") == "runtime_error"
    assert verdict(box, lines, "print(*[int(x) + 2 for x in stdin.read().split()], sep='\\n')") == "passed"
    assert verdict(box, numbers, "print(int(input()) + 1)") == "passed"


@pytest.mark.sandbox
def test_a_slow_program_times_out_and_an_object_is_no_answer(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("apps", write(tmp_path / "a.jsonl", row(1, fn_name="f", inputs=[[1]], outputs=[1])))
    anything = "class Yes(list):\n    __eq__ = lambda s, o: True\n    __hash__ = None\ndef f(x): return Yes()"
    assert verdict(box, problem, anything) in ("wrong_answer", "runtime_error")
    assert verdict(box, problem, "def f(x):\n    while True: pass") == Verdict.timeout


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"problem_id": None}, "needs a problem_id"),
        ({"question": None}, "'question' is missing"),
        ({"input_output": "{"}, "'input_output' is not valid JSON"),
        ({"input_output": "[1]"}, "must hold an object"),
        ({"input_output": '{"inputs": ["1"], "outputs": []}'}, "lists of one length"),
        ({"input_output": '{"inputs": {"a": 1}, "outputs": [1]}'}, "lists of one length"),
        (
            {"input_output": '{"fn_name": "a.b", "inputs": [[1]], "outputs": [1]}'},
            "fn_name 'a.b' is not a name",
        ),
        (
            {"input_output": '{"fn_name": "f", "inputs": ["1"], "outputs": [1]}'},
            "a list of arguments, got '1'",
        ),
        ({"input_output": '{"inputs": [null], "outputs": ["1"]}'}, "a text or a list of lines"),
        ({"input_output": '{"inputs": [[["1"]]], "outputs": ["1"]}'}, "a text or a list of lines"),
        ({"solutions": "[1]"}, "solutions must hold a list of programs"),
        ({"problem_id": 1}, "task id 'APPS/1' occurs twice"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    pairs = {"inputs": ["1"], "outputs": ["1"]}
    path = write(tmp_path / "a.jsonl", row(1, **pairs), {**row(2, **pairs), **change})
    with pytest.raises(CodealignError, match=rf"a\.jsonl:2: .*{why}"):
        load("apps", path)


def test_both_judges_are_registered_and_know_their_splits(tmp_path: Path) -> None:
    assert {"apps", "apps_strict"} <= set(BENCHMARKS.names())
    write(tmp_path / "train.jsonl", row(7, inputs=["1"], outputs=["1"]))
    assert [p.task_id for p in load("apps", tmp_path, "train")] == ["APPS/7"]
    with pytest.raises(CodealignError, match="splits test, train"):
        load("apps", tmp_path, "introductory")
