"""TACO: the form of APPS, tags that are never evaluated, and comparers that a file beside the data picks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from sandbox import CodeTest, IOTest, Sandbox, Verdict

ROW = {
    "question": "Q",
    "solutions": "[]",
    "starter_code": "",
    "input_output": '{"inputs": ["1"], "outputs": ["Yes 0.5"]}',
    "difficulty": "EASY",
    "tags": "['a', 'b']",
    "time_limit": "1.0 seconds",
}


def write(folder: Path, count: int, judges: list[dict[str, Any]] | None = None, **change: Any) -> Path:
    (folder / "test.jsonl").write_text(
        json.dumps({**ROW, **change}) + "\n" + (json.dumps(ROW) + "\n") * (count - 1)
    )
    if judges is not None:
        (folder / "output_spj.jsonl").write_text("".join(json.dumps(judge) + "\n" for judge in judges))
    return folder / "test.jsonl"


def judge(place: int, case: int, special: bool = True) -> dict[str, Any]:
    return {"idx": place, "special_judge": special, "case": case}


@pytest.fixture
def dataset(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "taco" / "sample.jsonl"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as made:
        yield made


@pytest.mark.sandbox
@pytest.mark.parametrize("name", ["taco", "taco_strict"])
def test_the_fixtures_solution_passes_and_mutants_fail(dataset: Path, name: str, box: Sandbox) -> None:
    (problem,) = load(name, dataset)
    assert problem.meta["tags"] == ["Implementation"] and problem.meta["skill_types"] == ["Greedy algorithms"]
    assert problem.meta["time_limit"] == "1.0 seconds" and problem.limits is not None
    assert problem.limits.cpu_seconds == 4 and problem.task_id == "TACO/test/0"
    sources = [problem.reference, problem.source(problem.canonical_solution.replace("max", "min"))]
    found = [result.verdict for result in box.run([problem.program(source) for source in sources])]
    assert found == [Verdict.passed, Verdict.wrong_answer]


def test_the_file_on_special_judges_picks_comparers_and_leaves_out_what_needs_a_judge(tmp_path: Path) -> None:
    judges = [judge(0, 0, False), judge(1, 1), judge(2, 2), judge(3, 3), judge(4, 0)]
    path = write(tmp_path, 5, judges)
    with pytest.warns(UserWarning, match="taco: 2 of 5 rows"):
        problems = load("taco", path)
    found = {problem.task_id: problem.tests[0] for problem in problems}
    assert {name: test.checker for name, test in found.items() if isinstance(test, IOTest)} == {
        "TACO/test/0": "apps",
        "TACO/test/2": "tokens_casefold",
        "TACO/test/3": "floats",
    }
    with pytest.warns(UserWarning):
        strict = load("taco_strict", tmp_path)  # the folder has the file too
    assert [test.checker for p in strict for test in p.tests if isinstance(test, IOTest)] == [
        "decimal_lines",
        "tokens_casefold",
        "floats",
    ]


@pytest.mark.sandbox
def test_case_is_forgiven_and_so_is_a_millionth_where_the_file_says_so(tmp_path: Path, box: Sandbox) -> None:
    plain, folded, close = load("taco", write(tmp_path, 3, [judge(0, 0, False), judge(1, 2), judge(2, 3)]))
    printed = ["YES 0.5", "Yes 0.5000001", "Yes 0.5"]
    found = [
        [str(r.verdict) for r in box.run([p.program(p.source(f"print({text!r})")) for text in printed])]
        for p in (plain, folded, close)
    ]
    assert found == [
        ["wrong_answer", "wrong_answer", "passed"],
        ["passed", "wrong_answer", "passed"],
        ["wrong_answer", "passed", "passed"],
    ]


def test_without_the_file_or_in_train_all_are_compared_as_in_apps(tmp_path: Path) -> None:
    assert len(load("taco", write(tmp_path, 2))) == 2
    write(tmp_path, 1, [judge(0, 1)])
    (tmp_path / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    assert [p.task_id for p in load("taco", tmp_path, "train")] == ["TACO/train/0"]


@pytest.mark.parametrize(
    ("judges", "why"),
    [
        ([judge(0, 0)], r"is about 1 problems, .* has 2"),
        ([judge(0, 0), judge(2, 0)], r"is about 2 problems"),
        ([judge(0, 0), judge(1, 4)], r"output_spj\.jsonl:2: needs idx"),
        ([judge(0, 0), {"idx": True, "special_judge": True, "case": 1}], r"output_spj\.jsonl:2: needs idx"),
        ([judge(0, 0), {"idx": 1, "special_judge": 1, "case": 1}], r"output_spj\.jsonl:2: needs idx"),
    ],
)
def test_a_file_on_special_judges_that_does_not_fit_is_refused(
    tmp_path: Path, judges: list[dict[str, Any]], why: str
) -> None:
    with pytest.raises(CodealignError, match=why):
        load("taco", write(tmp_path, 2, judges))


@pytest.mark.parametrize(
    "tags",
    [
        "__import__('os').system('touch mark')",
        "[1]",
        "{",
        "[" * 10_000,
        "'a'",
        "['a'] * 10**9",
        "[open('x')]",
    ],
)
def test_tags_are_literals_or_refused(tmp_path: Path, tags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CodealignError, match=r"test\.jsonl:1: tags .* is no list of texts"):
        load("taco", write(tmp_path, 1, tags=tags))
    assert not (tmp_path / "mark").exists()


def test_calls_are_read_as_in_apps_and_rows_without_tests_are_left_out(tmp_path: Path) -> None:
    pairs = json.dumps({"fn_name": "f", "inputs": [[1], [2]], "outputs": [1, 2]})
    (problem,) = load("taco", write(tmp_path, 1, input_output=pairs))
    assert problem.entry_point == "f" and all(isinstance(test, CodeTest) for test in problem.tests)
    with pytest.warns(UserWarning, match="1 of 2"):
        (problem,) = load("taco", write(tmp_path, 2, input_output=""))
    assert problem.task_id == "TACO/test/1"
