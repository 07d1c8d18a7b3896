"""ENAMEL's table and its generators: inputs are those of the authors' code, draw by draw."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.benchmarks.base import load
from codegen_eval.benchmarks.enamel.data import COLUMNS, EXCLUDED, read_rows
from codegen_eval.benchmarks.enamel.inputs import HELPERS
from codegen_eval.errors import CodealignError
from sandbox import Sandbox
from tests.conftest import shared_dir

ROW = {
    "task_id": "HumanEval/0",
    "prompt": 'def f(n):\n    """Twice n."""\n',
    "input_generator": "def generate_input(size, lid, cid):\n    return random.randint(0, size),",
    "input_levels": "1 2 3 4",
    "reference_solution": "    return 2 * n",
    "checker": "def __check(input, answer, output):\n"
    "    return type(output) == type(answer) and output == answer\n",
    "entry_point": "f",
}


def table(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(1) as sandbox:
        yield sandbox


def test_the_reference_is_the_prompt_a_newline_and_the_body(tmp_path: Path) -> None:
    (problem,) = load("enamel", table(tmp_path / "enamel.csv", ROW))
    scope: dict[str, Any] = {}
    exec(problem.reference, scope)
    assert scope["f"](4) == 8
    assert problem.source(None, "    return 3") == ROW["prompt"] + "\n    return 3", "a bare body works"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checker": ""}, "row 0: checker is empty"),
        ({"input_levels": "1 2 3"}, "row 0: input_levels must be four sizes, got '1 2 3'"),
        ({"input_levels": "1 2 3 x"}, "four sizes"),
        ({"entry_point": "f()"}, "is not a name"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, change: dict[str, str], said: str) -> None:
    with pytest.raises(CodealignError, match=said):
        load("enamel", table(tmp_path / "enamel.csv", ROW | change))


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="lacks the column 'checker'"):
        load("enamel", table(tmp_path / "a.csv", ROW, columns=tuple(c for c in COLUMNS if c != "checker")))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CodealignError, match="cannot read"):
        load("enamel", tmp_path / "b.csv")
    with pytest.raises(CodealignError, match="--dataset"):
        load("enamel")
    with pytest.raises(CodealignError, match="split of enamel"):
        load("enamel", table(tmp_path / "enamel.csv", ROW), "train")


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "generator", ["def generate_input(*a): raise KeyError", "def generate_input(*a): return 3"]
)
def test_a_generator_that_gives_no_input_is_named(tmp_path: Path, box: Sandbox, generator: str) -> None:
    (problem,) = load("enamel", table(tmp_path / "enamel.csv", ROW | {"input_generator": generator}))
    assert problem.graded is not None
    with pytest.raises(
        CodealignError, match="HumanEval/0: the input generator gave no input for level 0, test 0"
    ):
        problem.graded(box)


@pytest.mark.sandbox
def test_generators_run_in_the_sandbox(tmp_path: Path, box: Sandbox) -> None:
    hostile = "import os\ndef generate_input(*a):\n    os.makedirs('/etc/x')\n    return 1,"
    (problem,) = load("enamel", table(tmp_path / "enamel.csv", ROW | {"input_generator": hostile}))
    assert problem.graded is not None
    with pytest.raises(CodealignError, match="Error"):
        problem.graded(box)
    assert not Path("/etc/x").exists()


def helpers() -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(HELPERS, scope)
    return scope


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_parentheses_are_balanced_or_not_as_asked(size: int) -> None:
    random.seed(size)
    text = helpers()["rand_parens"](size)
    depths = [text[: i + 1].count("(") - text[: i + 1].count(")") for i in range(len(text))]
    assert len(text) == size + size % 2 and min(depths) >= 0 and depths[-1] == 0
    groups = helpers()["rand_parens"](size, sep=None)
    assert all(group.count("(") == group.count(")") > 0 for group in groups)
    if size > 2:
        wrong = helpers()["rand_parens"](size, valid=False)
        assert min(wrong[: i + 1].count("(") - wrong[: i + 1].count(")") for i in range(len(wrong))) < 0


def test_primes_are_primes() -> None:
    scope = helpers()
    assert [n for n in range(60) if scope["miller_rabin"](n)] == [
        n for n in range(2, 60) if all(n % d for d in range(2, n))
    ]
    assert not any(scope["miller_rabin"](n) for n in (561, 1105, 30031))
    assert [scope["rand_primality"](10, 0, cid) for cid in range(4)] == [30031, 561, 2, 125]


@pytest.mark.sandbox
@pytest.mark.slow
def test_inputs_have_the_published_fingerprints(box: Sandbox) -> None:
    folder = shared_dir() / "data" / "enamel"
    known = json.loads((folder / "input_fingerprints.json").read_text())["problems"]
    rows = {row.number: row for row in read_rows(folder / "enamel.csv")}
    assert len(rows) == 164 and set(map(int, known)) == set(rows) - EXCLUDED
    # One of each kind: hash-dependent, helpers, primes, large magnitudes, the one with megabytes.
    chosen = {7, 64, 80, 1, 6, 31, 75, 59, 39, 143, 161}
    for problem in load("enamel", folder):
        if problem.meta["number"] not in chosen:
            continue
        assert problem.graded is not None
        made = ["".join(map(repr, level)) for level in problem.graded(box).levels]
        found = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in made]
        assert found == known[str(problem.meta["number"])], problem.task_id
