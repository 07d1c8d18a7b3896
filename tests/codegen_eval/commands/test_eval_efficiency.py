"""`codealign eval` with efficiency, a store, and what hostile or broken input does to it."""

from __future__ import annotations

import base64
import csv
import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from alignment.cli import main
from codegen_eval.runs import read_jsonl
from tests.conftest import REPO

pytestmark = pytest.mark.sandbox
FIELDS = {
    "prompt": 'def f(xs):\n    """Sorted."""\n',
    "input_generator": "def generate_input(size, lid, cid):\n"
    "    return [(i * 7) % size for i in range(size)],",
    "input_levels": "10 300 2000 6000",
    "reference_solution": "    return sorted(xs)",
    "checker": "def __check(input, answer, output):\n"
    "    return type(output) == type(answer) and output == answer\n",
    "entry_point": "f",
}
FAST = "def f(xs):\n    return sorted(xs)\n"
SLOW = "def f(xs):\n    found = []\n    for x in sorted(xs): found = found + [x]\n    return found\n"
WRONG = "def f(xs):\n    return xs\n"


def enamel(path: Path, count: int = 2, **changes: str) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["task_id", *FIELDS])
        writer.writeheader()
        writer.writerows({"task_id": f"HumanEval/{i}", **FIELDS, **changes} for i in range(count))
    return path


def command(
    tmp_path: Path, out: str, *more: str, benchmark: str = "enamel", samples: str = "s.json"
) -> list[str]:
    words = [
        "eval",
        "--benchmark",
        benchmark,
        "--samples",
        str(tmp_path / samples),
        "--out",
        str(tmp_path / out),
    ]
    return [*words, *more]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.mark.parametrize("mode", ["robust", "compat"])
def test_eff_at_k_of_graded_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str) -> None:
    data = enamel(tmp_path / "enamel.csv")
    (tmp_path / "s.json").write_text(json.dumps([[FAST, SLOW, WRONG, FAST]] * 2))
    extra = ("--dataset", str(data), "--eff", mode, "--repeats", "3", "--split", "all")
    extra += ("--k", "1", "4")
    assert main(command(tmp_path, "run", *extra)) == 0
    results = read(tmp_path / "run/results.json")
    rows = list(read_jsonl(tmp_path / "run/sample_results.jsonl"))
    said = capsys.readouterr().out
    assert "eff@1" in said and "pass@1" in said
    if mode == "robust":  # by wall time a busy machine fails right programs
        assert [row["passed"] for row in rows] == [True, True, False, True] * 2
        assert rows[2]["verdict"] == "wrong_answer" and results["pass_at_k"]["1"]["value"] == 0.75
        fast, slow, wrong, again = results["problems"][0]["eff"]
        assert fast == again > 0.5 and slow < fast and wrong == 0.0
        assert results["eff_at_k"]["4"]["value"] == pytest.approx(
            sum(max(problem["eff"]) for problem in results["problems"]) / 2
        )
        assert results["noise"] >= 0 and "varied by" in said
    assert main(["compare", str(tmp_path / "run"), str(tmp_path / "run")]) == 0
    assert "eff@1" in capsys.readouterr().out


def test_any_benchmark_with_graded_inputs_has_eff_at_k(tmp_path: Path) -> None:
    from codegen_eval.benchmarks.base import load

    problems = load("minipy")[:2]
    rows = [{"task_id": p.task_id, "completion": p.canonical_solution} for p in problems]
    rows.append({"task_id": problems[0].task_id, "completion": "    return None\n"})
    rows.append({"task_id": problems[1].task_id, "completion": problems[1].canonical_solution})
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = command(
        tmp_path, "run", "--eff", "robust", "--allow-partial", benchmark="minipy", samples="s.jsonl"
    )
    assert main(given) == 0
    first, second = read(tmp_path / "run/results.json")["problems"]
    assert first["eff"][1] == 0.0 and first["eff"][0] > 0.4 and second["eff"][0] == second["eff"][1]
    assert list(read_jsonl(tmp_path / "run/scores.jsonl"))[1]["cause"] == "its hidden tests failed"


def test_a_benchmark_without_graded_inputs_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {
        "task_id": "a/0",
        "prompt": "def f():\n",
        "canonical_solution": "    return 1\n",
        "entry_point": "f",
    }
    (tmp_path / "d.jsonl").write_text(json.dumps({**task, "test": "def check(c):\n    assert c() == 1\n"}))
    (tmp_path / "s.json").write_text(json.dumps([["def f(): return 1"]]))
    extra = ("--dataset", str(tmp_path / "d.jsonl"), "--eff", "robust")
    assert main(command(tmp_path, "run", *extra, benchmark="humaneval")) == 2
    assert "humaneval has no graded inputs" in capsys.readouterr().err


def test_a_reference_that_fails_is_said_and_nothing_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = enamel(tmp_path / "enamel.csv", reference_solution="    return 1 // 0")
    (tmp_path / "s.json").write_text(json.dumps([[FAST]] * 2))
    assert main(command(tmp_path, "run", "--dataset", str(data), "--split", "all")) == 2
    said = capsys.readouterr().err
    assert "HumanEval/0: the reference itself fails" in said and "ZeroDivisionError" in said
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.slow
def test_killed_while_it_scores_it_goes_on_and_scores_nothing_twice(tmp_path: Path) -> None:
    data = enamel(tmp_path / "enamel.csv", 6)
    (tmp_path / "s.json").write_text(json.dumps([[FAST]] * 6))
    given = command(tmp_path, "run", "--dataset", str(data), "--split", "all")
    process = subprocess.Popen([sys.executable, "-m", "alignment.cli", *given], cwd=REPO)
    parts = tmp_path / "run/.parts/scores"
    deadline = time.monotonic() + 60
    while len(list(parts.glob("[0-9]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.read_bytes() for path in parts.glob("[0-9]*")}
    assert 2 <= len(before) < 6
    assert main(given) == 0
    rows = [json.dumps(row, sort_keys=True) for row in read_jsonl(tmp_path / "run/scores.jsonl")]
    kept = [json.dumps(json.loads(text), sort_keys=True) for text in before.values()]
    assert len(rows) == 6 and set(kept) <= set(rows)


def test_a_completion_of_50_megabytes_fails_alone(tmp_path: Path) -> None:
    data = enamel(tmp_path / "enamel.csv", 1)
    (tmp_path / "s.json").write_text(json.dumps([[FAST, FAST + "#" * 50_000_000]]))
    assert main(command(tmp_path, "run", "--dataset", str(data), "--split", "all")) == 0
    fast, long = read_jsonl(tmp_path / "run/sample_results.jsonl")
    assert fast["passed"] and (long["verdict"], long["cause"]) == (
        "syntax_error",
        "syntax_error longer than 16 MiB",
    )
    task = {
        "task_id": "a/0",
        "prompt": "def f():\n",
        "canonical_solution": "    return 1\n",
        "entry_point": "f",
    }
    (tmp_path / "d.jsonl").write_text(json.dumps({**task, "test": "def check(c):\n    assert c() == 1\n"}))
    (tmp_path / "t.json").write_text(json.dumps([["def f(): return 1", "#" * 50_000_000]]))
    extra = ("--dataset", str(tmp_path / "d.jsonl"), "--store", str(tmp_path / "store"))
    assert main(command(tmp_path, "other", *extra, benchmark="humaneval", samples="t.json")) == 0
    assert read(tmp_path / "other/results.json")["verdicts"] == {"passed": 1, "syntax_error": 1}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("s.jsonl", b'{"task_id": "HumanEvil/0", "completion": ""}', "did you mean 'HumanEval/0'"),
        ("s.jsonl", b'{"task_id": "HumanEval/0", "completion": "\xff"}', "s.jsonl:1: not UTF-8"),
        ("s.json", b"\xff[[]]", "cannot read"),
        ("s.jsonl", b'{"task_id": "HumanEval/0", "sample": 1, "completion": ""}\n' * 2, "given twice"),
    ],
)
def test_samples_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    data = enamel(tmp_path / "enamel.csv", 1)
    assert main(command(tmp_path, "run", "--dataset", str(data), "--split", "all", samples=name)) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_repeated_task_ids_of_a_benchmark_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = enamel(tmp_path / "enamel.csv", 1)
    data.write_text(data.read_text() + data.read_text().split("\n", 1)[1])
    (tmp_path / "s.json").write_text(json.dumps([[FAST]]))
    assert main(command(tmp_path, "run", "--dataset", str(data), "--split", "all")) == 2
    assert "task ids occur more than once: HumanEval/0" in capsys.readouterr().err


def test_a_hostile_pickle_in_a_benchmark_is_refused_and_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "it-ran"
    gadget = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()  # calls os.system when it is unpickled
    packed = base64.b64encode(zlib.compress(gadget)).decode()
    row = {
        "question_title": "t", "question_content": "c", "platform": "atcoder", "question_id": "q",
        "contest_id": "c", "contest_date": "2024-01-01T00:00:00", "starter_code": "", "difficulty": "easy",
        "public_test_cases": json.dumps([{"input": "1", "output": "1", "testtype": "stdin"}]),
        "private_test_cases": packed, "metadata": "{}",
    }  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    (tmp_path / "s.jsonl").write_text(json.dumps({"task_id": "q", "solution": "print(1)"}))
    extra = ("--dataset", str(tmp_path / "test.jsonl"))
    assert main(command(tmp_path, "run", *extra, benchmark="livecodebench", samples="s.jsonl")) == 2
    assert "test.jsonl:1" in capsys.readouterr().err
    assert not mark.exists() and not (tmp_path / "run").exists()


def test_libraries_that_are_not_shown_leave_tasks_out_or_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "task_id": "BigCodeBench/0", "complete_prompt": "def task_func():\n", "instruct_prompt": "p",
        "canonical_solution": "    return 1\n", "code_prompt": "def task_func():\n",
        "entry_point": "task_func",
        "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_it(self): self.assertEqual(task_func(), 1)\n",
        "doc_struct": "{}", "libs": "['pandas']",
    }  # fmt: skip
    plain = {**row, "task_id": "BigCodeBench/1", "libs": "[]"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(plain) + "\n")
    rows = [{"task_id": f"BigCodeBench/{i}", "completion": "    return 1\n"} for i in range(2)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    given = command(
        tmp_path, "run", "--dataset", str(tmp_path / "d.jsonl"), benchmark="bigcodebench", samples="s.jsonl"
    )
    assert main(given) == 2
    assert "'BigCodeBench/0' pandas: name installed ones by --libraries" in capsys.readouterr().err
