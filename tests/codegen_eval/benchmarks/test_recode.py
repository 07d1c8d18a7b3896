"""ReCode's perturbed and nominal prompts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError
from sandbox import Sandbox
from tests.codegen_eval.benchmarks.judging import returns_none, verdicts, without, write

pytestmark = pytest.mark.sandbox
TASKS = {f"HumanEval/{n}" for n in (3, 4, 19, 38, 66, 105)}
ROW = {
    "task_id": "HumanEval/0",
    "prompt": "def onE():\n",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "onE",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data" / "benchmarks" / "recode"


def test_every_released_row_has_an_id_of_its_own(folder: Path) -> None:
    problems = load("recode", folder / "perturbed_humaneval_sample.jsonl")
    names = {(p.meta["perturbation"], p.meta["seed"]) for p in problems}
    assert {p.meta["nominal"] for p in problems} == TASKS
    assert len(problems) == 6 * len(names) and {seed for _, seed in names} == {0, 1}
    assert problems[0].task_id == "HumanEval/3/doc2comments/s0"


def test_nominal_references_pass_and_what_returns_none_fails(folder: Path, box: Sandbox) -> None:
    problems = load("recode", folder / "nominal_sample.jsonl")
    assert [p.task_id for p in problems if p.meta["nominal"] == "HumanEval/3"] == [
        "HumanEval/3/nominal",
        "HumanEval/3/nominal_partial",
    ]
    for problem in problems:
        sources = (problem.reference, returns_none(problem.reference))
        assert verdicts(box, problem, *sources) in (["passed", "wrong_answer"], ["passed", "runtime_error"])


def test_released_perturbations_are_broken_where_the_measurement_says_so(folder: Path, box: Sandbox) -> None:
    """Of each file of seed 0 the measurement names the first failing tasks, at most eight of them."""
    problems = load("recode", folder / "perturbed_humaneval_sample.jsonl")
    results = box.run(problem.program(problem.reference) for problem in problems)
    failing = defaultdict(set)
    for problem, result in zip(problems, results, strict=True):
        if problem.meta["seed"] == 0:
            bad = {problem.meta["nominal"]} if result.verdict != "passed" else set()
            failing[problem.meta["perturbation"]] |= bad
    measured = json.loads((folder / "canonical_validity_seed0.json").read_text())
    assert len(failing) == 29 == len(measured) - 2  # the two nominal forms
    for name, found in failing.items():
        entry = measured[f"humaneval_{name}_s0.jsonl"]
        last = max((number(task) for task in entry["first_failing"]), default=0)
        whole = entry["items"] - entry["canonical_passes"] <= 8
        known = {task for task in TASKS if whole or number(task) <= last}
        assert found & known == set(entry["first_failing"]) & TASKS, name


def number(task: str) -> int:
    return int(task.rpartition("/")[2])


def test_partial_prompts_keep_their_newlines_and_renamed_entry_points_are_called(folder: Path) -> None:
    problems = load("recode", folder / "perturbed_humaneval_sample.jsonl")
    after = [p for p in problems if p.meta["perturbation"] == "new_line_aftercode"]
    assert after and all(p.prompt.endswith("\n\n") and p.meta["form"] == "partial" for p in after)
    camel = {p.meta["nominal"]: p for p in problems if p.meta["perturbation"] == "FuncRenameCamelCase"}
    assert camel["HumanEval/3"].entry_point == "belowZero" and camel["HumanEval/3"].meta["form"] == "full"


def test_files_of_the_repository_say_transformation_and_seed_by_their_names(tmp_path: Path) -> None:
    for family, name in (
        ("format", "humaneval_new_lines_s3.jsonl"),
        ("func_name", "humaneval_FuncRenameSwapChar_s10.jsonl"),
        ("nominal", "HumanEval.jsonl"),
        ("nominal", "humaneval_partial.jsonl"),
    ):
        (tmp_path / family).mkdir(exist_ok=True)
        write(tmp_path / family / name, ROW)
    assert {p.task_id: (p.meta["family"], p.meta["form"]) for p in load("recode", tmp_path)} == {
        "HumanEval/0/new_lines/s3": ("format", "partial"),
        "HumanEval/0/FuncRenameSwapChar/s10": ("func_name", "full"),
        "HumanEval/0/nominal": (None, "full"),
        "HumanEval/0/nominal_partial": (None, "partial"),
    }
    assert [p.meta["seed"] for p in load("recode", tmp_path, "SwapChar")] == [10]


def test_rows_of_mbpp_have_numbers_and_need_no_canonical_solution(tmp_path: Path, box: Sandbox) -> None:
    row = {**without(ROW, "canonical_solution"), "task_id": 7}
    (problem,) = load("recode", write(tmp_path / "mbpp_tab_indent_s0.jsonl", row))
    assert problem.task_id == "MBPP/7/tab_indent/s0" and problem.reference == ""
    assert verdicts(box, problem, problem.source("\treturn 1\n"), problem.source("\treturn 2\n#\n")) == [
        "passed",
        "wrong_answer",
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "prompt"), "the text field 'prompt' is missing"),
        ({**ROW, "test": "assert True"}, r"does not define check\(candidate\)"),
        ({**ROW, "task_id": None}, "task_id must be text or a number, got None"),
        ({**ROW, "perturbation_name": "x"}, "the whole number 'seed' is missing"),
        ({**ROW, "perturbation_name": 3}, "the text field 'perturbation_name' is 3"),
        ({**ROW, "canonical_solution": 3}, "the text field 'canonical_solution' is 3"),
        ({**ROW, "entry_point": ""}, "entry_point '' is not a name"),
        ({**ROW, "perturbation_name": "x", "seed": 0}, "task id 'HumanEval/0/x/s0' occurs twice"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "r.jsonl", {**ROW, "perturbation_name": "x", "seed": 0}, row)
    with pytest.raises(CodealignError, match=rf"r\.jsonl:2: .*{why}"):
        load("recode", path)
