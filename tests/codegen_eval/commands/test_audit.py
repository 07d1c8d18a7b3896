"""codealign audit: broken references, blind and flaky tests are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.commands.audit import main
from codegen_eval.errors import CodealignError
from codegen_eval.runs import read_jsonl

pytestmark = pytest.mark.sandbox
GOOD = "    if x < 2:\n        return 1\n    return x * 2\n"
TESTS = {
    "sound": "def check(candidate):\n    assert [candidate(n) for n in range(5)] == [1, 1, 4, 6, 8]\n",
    "blind": "def check(candidate):\n    candidate(1)\n",
    "broken": "def check(candidate):\n    assert candidate(1) == 2\n",
    "flaky": "import os\ndef check(candidate):\n    assert candidate(1) == 1 and os.urandom(1)[0] % 2\n",
    "weak": "def check(candidate):\n    assert candidate(4) == 8\n",
}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    rows = [
        {
            "task_id": name,
            "prompt": "def f(x):\n",
            "canonical_solution": GOOD,
            "test": test,
            "entry_point": "f",
        }
        for name, test in TESTS.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_broken_blind_flaky_and_weak_tests_are_named(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["humaneval", "--dataset", str(dataset), "--out", str(tmp_path / "run"), "--runs", "12"]
    assert main(arguments) == 1
    rows = {row["task_id"]: row for row in read_jsonl(tmp_path / "run/audit.jsonl")}
    assert [name for name, row in rows.items() if row["sound"]] == ["sound", "weak"]
    assert rows["blind"]["empty_passes"] and not rows["broken"]["empty_passes"]
    assert rows["broken"]["reference"].startswith("wrong_answer")
    assert rows["flaky"]["flaky"] and not rows["broken"]["flaky"]
    assert rows["sound"]["survivors"] == [] and rows["sound"]["mutants"] > 5
    assert any("Lt is LtE" in what for what in rows["weak"]["survivors"])
    said = capsys.readouterr().out
    assert (
        "a program that returns nothing passes" in said
        and "5 tasks, 5 with a reference: 2 sound, 3 not" in said
    )


def test_a_benchmark_that_is_sound_ends_with_0(dataset: Path, tmp_path: Path) -> None:
    dataset.write_text(dataset.read_text().splitlines(keepends=True)[0])
    assert main(["humaneval", "--dataset", str(dataset), "--out", str(tmp_path / "run")]) == 0


def test_graded_inputs_are_audited_by_the_references_score(tmp_path: Path) -> None:
    fields = {
        "task_id": "t",
        "prompt": 'def f(xs):\n    """Sum."""\n',
        "input_generator": "def generate_input(size, lid, cid):\n    return list(range(size + cid)),",
        "input_levels": "10 200 1000 4000",
        "reference_solution": "    return sum(x for x in xs)",
        "checker": "def __check(input, answer, output):\n"
        "    return type(output) == type(answer) and output == answer\n",
        "entry_point": "f",
    }
    import csv

    with (tmp_path / "enamel.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(fields))
        writer.writeheader()
        writer.writerow(fields)
    arguments = [
        "enamel",
        "--dataset",
        str(tmp_path / "enamel.csv"),
        "--split",
        "all",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(arguments) == 0
    (row,) = read_jsonl(tmp_path / "r/audit.jsonl")
    assert 0.7 < row["efficiency"] < 1.3 and row["mutants"] == 1 and not row["empty_passes"]


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="humaneval"):
        main(["humanevel", "--out", str(tmp_path / "run")])
