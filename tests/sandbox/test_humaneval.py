"""HumanEval as a check of the whole engine: every reference passes, every mutant fails."""

import ast
import gzip
import json
import time

import pytest

from sandbox import CodeTest, Program, Sandbox, Verdict


class _NoneForEveryReturn(ast.NodeTransformer):
    def visit_Return(self, node: ast.Return) -> ast.Return:
        return ast.Return(ast.Constant(None))


def _mutant(source: str, entry_point: str) -> str:
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == entry_point:
            _NoneForEveryReturn().visit(node)
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.slow
@pytest.mark.sandbox
def test_all_references_pass_and_all_mutants_fail_in_under_a_minute(shared, record_property):
    with gzip.open(shared / "data" / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file]
    assert len(problems) == 164

    def programs(mutants: bool):
        for p in problems:
            source = p["prompt"] + p["canonical_solution"]
            source = _mutant(source, p["entry_point"]) if mutants else source
            yield Program(source, p["entry_point"], (CodeTest(p["test"], trusted=True),), p["task_id"])

    begin = time.monotonic()
    with Sandbox(2) as sandbox:
        good = list(sandbox.run(programs(mutants=False)))
        bad = list(sandbox.run(programs(mutants=True)))
    seconds = time.monotonic() - begin
    record_property("seconds", seconds)
    print(f"\n328 HumanEval programs: {seconds:.1f} s")
    assert [r for r in good if r.verdict is not Verdict.passed] == []
    assert [r.id for r in bad if r.verdict is Verdict.passed] == []
    assert [r.id for r in good] == [p["task_id"] for p in problems]
    assert seconds < 60
