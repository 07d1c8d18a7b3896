"""HumanEval's reader, and the whole benchmark through `codealign eval`."""

from __future__ import annotations

import ast
import gzip
import json
import time
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.commands.eval import EvalConfig, run
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_jsonl, write_jsonl
from codegen_eval.records import Problem

ROW = {
    "task_id": "HumanEval/0",
    "prompt": "def one():\n",
    "canonical_solution": "    return 1\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "one",
}


@pytest.fixture
def dataset(shared: Path) -> Path:
    return shared / "data" / "humaneval" / "HumanEval.jsonl.gz"


def write(path: Path, *rows: object) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


def test_a_row_becomes_a_problem_with_a_hidden_test(tmp_path: Path) -> None:
    (problem,) = load("humaneval", write(tmp_path / "h.jsonl.gz", ROW), "test")
    assert problem.task_id == "HumanEval/0" and problem.entry_point == "one"
    assert "check(candidate)" in problem.tests[0].source  # type: ignore[union-attr]
    namespace: dict[str, object] = {}
    exec(problem.prompt + problem.canonical_solution, namespace)
    assert namespace["one"]() == 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"test": None}, "the text field 'test' is missing"),
        ({"entry_point": "1x"}, "entry_point '1x' is not a name"),
        ({"test": "assert True"}, "does not define check"),
        ({}, "task id 'HumanEval/0' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, object], why: str) -> None:
    path = write(tmp_path / "h.jsonl.gz", ROW, {**ROW, **change})
    with pytest.raises(CodealignError, match=rf"h\.jsonl\.gz:2: .*{why}"):
        load("humaneval", path)


def test_it_asks_for_its_file_and_knows_one_split(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="--dataset"):
        load("humaneval")
    with pytest.raises(CodealignError, match="only the split 'test'"):
        load("humaneval", write(tmp_path / "h.jsonl.gz", ROW), "train")


def test_the_real_file_has_164_problems(dataset: Path) -> None:
    problems = load("humaneval", dataset)
    assert len(problems) == 164
    assert [p.task_id for p in problems] == [f"HumanEval/{i}" for i in range(164)]


def returns_none(problem: Problem) -> str:
    """The canonical program with every returned value of the entry point replaced by None."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)

    class Mutator(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.Return:
            return ast.Return(ast.Constant(None))

    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point:
            Mutator().visit(node)
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.slow
@pytest.mark.sandbox
def test_canonical_solutions_pass_and_mutants_fail_in_under_a_minute(dataset: Path, tmp_path: Path) -> None:
    problems = load("humaneval", dataset)
    rows = []
    for problem in problems:
        rows.append({"task_id": problem.task_id, "completion": problem.canonical_solution})
        rows.append({"task_id": problem.task_id, "solution": returns_none(problem)})
    write_jsonl(tmp_path / "samples.jsonl", rows)
    start = time.monotonic()
    config = EvalConfig(
        benchmark="humaneval", dataset=dataset, samples=tmp_path / "samples.jsonl", out=tmp_path / "run"
    )
    out = run(config)
    seconds = time.monotonic() - start
    results = out.read_json("results.json")
    wrong = {
        (row["task_id"], row["sample"]): row["verdict"]
        for row in read_jsonl(out.path / "sample_results.jsonl")
        if row["passed"] != (row["sample"] == 0)
    }
    assert not wrong
    assert results["pass_at_k"]["1"]["value"] == 0.5 and results["n_problems"] == 164
    assert seconds < 60
