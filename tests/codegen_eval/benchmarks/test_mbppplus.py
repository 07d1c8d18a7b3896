"""MBPP+ in both forms."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from codegen_eval.benchmarks import evalplus
from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.mbpp_asserts import called, literal_calls
from codegen_eval.errors import CodealignError
from codegen_eval.oracles import answered
from sandbox import CallTest, Sandbox
from tests.codegen_eval.benchmarks.judging import returns_none, verdicts, without, write
from tests.codegen_eval.benchmarks.test_mbpp_asserts import through_json

pytestmark = pytest.mark.sandbox
ROW = {
    "task_id": "Mbpp/2",
    "prompt": '"""\nShared elements.\nassert set(similar_elements((3, 4),(5, 4))) == set((4,))\n"""\n',
    "entry_point": "similar_elements",
    "canonical_solution": "\ndef similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
    "base_input": [[[3, 4], [5, 4]]],
    "plus_input": [[[], [1]], [[1, 2, 3], [3, 2]]],
    "atol": 0,
    "assertion": "\nassert set(similar_elements((3, 4),(5, 4))) == set((4,))\n",
}


@pytest.fixture(scope="module")
def box():
    with Sandbox(1) as sandbox:
        yield sandbox


def fixture(shared: Path, name: str) -> Path:
    return shared / "data" / "benchmarks" / "mbppplus" / name


def test_the_fixtures_references_pass_in_both_forms_and_wrong_answers_fail(
    shared: Path, box: Sandbox
) -> None:
    for name, tests in (("sample.jsonl", 4), ("sample_hub_form.jsonl", 1)):
        (problem,) = answered(load("mbppplus", fixture(shared, name)), box)
        assert problem.task_id == "Mbpp/900001" and problem.entry_point == "count_pairs"
        assert len(problem.tests) == tests
        at_least = problem.reference.replace("range(i)", "range(i + 1)")
        sources = (problem.reference, returns_none(problem.reference), at_least)
        assert verdicts(box, problem, *sources) == ["passed", "wrong_answer", "wrong_answer"]


def test_both_forms_show_a_model_the_same_prompt(shared: Path) -> None:
    (release,), (hub,) = (
        load("mbppplus", fixture(shared, name)) for name in ("sample.jsonl", "sample_hub_form.jsonl")
    )
    assert release.prompt == hub.prompt and release.chat == hub.chat and release.stop == hub.stop


def test_inputs_are_tuples_again_and_any_order_is_right(tmp_path: Path, box: Sandbox) -> None:
    (problem,) = answered(load("mbppplus", write(tmp_path / "m", ROW)), box)
    assert problem.meta["groups"] == {"base": (0, 1), "plus": (1, 3)}
    only_tuples = "def similar_elements(a, b):\n    assert type(a) is type(b) is tuple\n    return {}\n"
    sources = [
        only_tuples.format(value)
        for value in ("[x for x in reversed(b) if x in a]", "set(a) & set(b)", "list(a)", "[]")
    ]
    assert verdicts(box, problem, problem.reference, *sources) == [*["passed"] * 3, *["wrong_answer"] * 2]


def test_a_match_object_counts_as_something(tmp_path: Path, box: Sandbox) -> None:
    row = {
        **ROW,
        "entry_point": "text_match_three",
        "canonical_solution": "\nimport re\ndef text_match_three(t):\n    return re.search('ab{3}', t)\n",
        "base_input": [["abbb"]],
        "plus_input": [["ab"]],
        "assertion": "\nassert text_match_three('abbb')\n",
    }
    (problem,) = answered(load("mbppplus", write(tmp_path / "m", row)), box)
    right = "def text_match_three(t):\n    return 'abbb' in t\n"
    assert verdicts(box, problem, problem.reference, right, right.replace("abbb", "ab")) == [
        "passed",
        "passed",
        "wrong_answer",
    ]


@pytest.mark.slow
def test_on_the_sanitised_files_asserts_the_references_give_what_the_asserts_expect(
    shared: Path, tmp_path: Path, box: Sandbox
) -> None:
    """Each task as a release row whose inputs are those of its asserts, as JSON leaves them."""
    tasks = json.loads((shared / "data" / "benchmarks" / "mbpp" / "sanitized-mbpp.json").read_text())
    rows, expected = [], {}
    for task in tasks:
        name = called(task["code"], task["test_list"], "f")
        calls = [literal_calls(text, name) for text in task["test_list"]]
        if task["task_id"] == 123 or not all(len(found) == 1 for found in calls):
            continue
        rows.append(
            {
                "task_id": f"Mbpp/{task['task_id']}",
                "prompt": '"""\n"""\n' + "\n".join(task["test_imports"]),
                "entry_point": name,
                "canonical_solution": "\n" + task["code"],
                "base_input": [through_json(found[0]) for found in calls],
                "plus_input": [],
                "atol": 0,
                "assertion": "\n".join(task["test_list"]),
            }
        )
        expected[f"Mbpp/{task['task_id']}"] = [right_side(text) for text in task["test_list"]]
    problems = answered(load("mbppplus", write(tmp_path / "m", *rows)), box)
    assert len(problems) > 400
    compared, wrong = 0, set()
    for problem in problems:
        for test, side in zip(problem.tests, expected[problem.task_id], strict=True):
            if isinstance(test, CallTest) and side is not None:
                compared += 1
                if not CallTest((), side[0], 1e-6).judged.equals(test.expected):
                    wrong.add(problem.task_id)
    assert compared > 1000 and wrong == set()
    results = box.run(problem.program(problem.reference) for problem in problems)
    failed = [p.task_id for p, r in zip(problems, results, strict=True) if r.verdict != "passed"]
    assert not failed


def right_side(text: str) -> list[object] | None:
    """The literal that `assert f(...) == literal` expects, in a list."""
    test = ast.parse(text).body[0].test  # type: ignore[attr-defined]
    if not isinstance(test, ast.Compare) or not isinstance(test.left, ast.Call):
        return None
    if getattr(test.left.func, "id", "") in ("set", "sorted", "tuple", "list", "round", "len"):
        return None
    try:
        return [ast.literal_eval(test.comparators[0])]
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (without(ROW, "assertion"), "the text field 'assertion' is missing"),
        (without(ROW, "base_input"), "'base_input' must be a list"),
        (without(ROW, "atol"), "atol must be a number"),
        ({"task_id": 3, "code": "def f(): pass"}, "'test_list', a list of texts, is missing"),
        (
            {
                "task_id": "3",
                "code": "def f(): pass",
                "test_list": ["assert f()"],
                "prompt": "p",
                "test": "t",
            },
            "the whole number 'task_id' is '3'",
        ),
        (
            {"task_id": 3, "code": "def f(): pass", "test_list": ["f()"], "prompt": "", "test_imports": "x("},
            "test_imports 'x\\(' is not a list",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, object], why: str) -> None:
    path = write(tmp_path / "m.jsonl", ROW, row)
    with pytest.raises(CodealignError, match=rf"m\.jsonl:2: .*{why}"):
        load("mbppplus", path)


def test_the_hubs_test_says_that_it_needs_numpy(tmp_path: Path) -> None:
    row = {
        "task_id": 3,
        "code": "def f(x): return x",
        "prompt": "p",
        "test_imports": "['import math']",
        "test_list": ["assert f(1) == 1"],
        "test": "import numpy as np\nassert np.allclose(f(1), math.floor(1.5))",
    }
    (problem,) = load("mbppplus", write(tmp_path / "m", row))
    assert problem.meta["needs"] == ("numpy",) and problem.tests[0].source.startswith("import math\n")  # type: ignore[union-attr]
    assert problem.stop == evalplus.STOP_MBPP
