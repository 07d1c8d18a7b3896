"""EvalPerf: heavy inputs, references from slow to fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from codegen_eval.evaluation import group, time_right
from codegen_eval.oracles import answered
from codegen_eval.records import Sample
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import returns_none, verdicts, without, write

pytestmark = pytest.mark.sandbox
ROW = {
    "task_id": "Mbpp/1",
    "prompt": '"""\nSum of a tuple.\nassert total((1, 2)) == 3\n"""\n',
    "entry_point": "total",
    "reference": ["def total(t):\n    return sum(t[:]) ", "def total(t):\n    return sum(t)"],
    "scores": [50, 100],
    "pe_input": "[[[1, 2, 3]]]",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def fixture(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "evalperf" / "sample.jsonl"


def test_all_references_of_the_fixture_pass_and_a_wrong_answer_fails(fixture: Path, box: Sandbox) -> None:
    (problem,) = answered(load("evalperf", fixture), box)
    slow, fast = problem.meta["references"]
    assert problem.meta["scores"] == (50.0, 100.0) and fast in problem.reference
    sources = (slow, fast, problem.reference, returns_none(fast))
    assert verdicts(box, problem, *sources) == ["passed"] * 3 + ["wrong_answer"]


def test_the_heavy_input_is_what_times_right_programs(fixture: Path, box: Sandbox) -> None:
    (problem,) = answered(load("evalperf", fixture), box)
    assert len(problem.sizes) == 1 and len(problem.sizes[0][0][0]) == 400
    samples = [Sample(problem.task_id, None, text, i) for i, text in enumerate(problem.meta["references"])]
    ((slow, fast),) = time_right(group([problem], samples), [[True, True]], box, 5.0)
    assert slow["slow"] and not fast["slow"]  # 80,000 pairs against 400 numbers


def test_types_come_back_from_the_prompts_assert(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = load("evalperf", write(tmp_path / "e", ROW))
    assert problem.sizes == ((((1, 2, 3),),),)
    humaneval = {**ROW, "task_id": "HumanEval/1", "prompt": 'def total(t):\n    """Sum."""\n'}
    (problem,) = load("evalperf", write(tmp_path / "h", humaneval))
    assert problem.sizes == ((([1, 2, 3],),),)
    assert verdicts(box, answered([problem], box)[0], problem.reference) == ["passed"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "reference"), "'reference', a list of texts, is missing"),
        ({**ROW, "scores": [1]}, "2 references and 1 scores do not fit"),
        ({**ROW, "scores": "high"}, "scores must be a list of numbers, got 'high'"),
        ({**ROW, "reference": [], "scores": []}, "0 references and 0 scores do not fit"),
        ({**ROW, "pe_input": "[["}, "pe_input is not JSON"),
        ({**ROW, "pe_input": "[" * 100_000}, "pe_input is not JSON"),
        ({**ROW, "pe_input": "[[1], [2]]"}, "pe_input must hold one list of arguments, it has 2"),
        (without(ROW, "pe_input"), "'pe_input' must be a list"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "e.jsonl", {**ROW, "task_id": "Mbpp/0"}, row)
    with pytest.raises(CodealignError, match=rf"e\.jsonl:2: .*{why}"):
        load("evalperf", path)


def test_a_list_in_place_of_the_packed_input_is_read_as_well(tmp_path: Path) -> None:
    (problem,) = load("evalperf", write(tmp_path / "e", {**ROW, "pe_input": json.loads(ROW["pe_input"])}))
    assert problem.sizes == ((((1, 2, 3),),),)
