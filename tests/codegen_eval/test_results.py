"""What an evaluation's files say: every form by its content, broken ones by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from codegen_eval.errors import CodealignError
from codegen_eval.formats.evalplus import write_evalplus
from codegen_eval.formats.human_eval import write_human_eval
from codegen_eval.results import read_evaluation
from tests.codegen_eval.formats.rows import PROMPTS, ROWS
from tests.codegen_eval.report.made_up import eval_results, write_eval


def test_a_run_directory_and_its_results_json_are_the_same(tmp_path: Path) -> None:
    folder = write_eval(tmp_path / "run", eval_results(0.0))
    (folder / "sample_results.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    one, two = read_evaluation(folder), read_evaluation(folder / "results.json")
    assert one.results == two.results and one.rows() == two.rows() == [ROWS[0]]
    assert one.form == "codealign" and one.protocol["command"] == "eval"
    assert one.results.pass_at_k[1].low is not None


def test_other_tools_files_give_the_same_figures(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    files = [tmp_path / "folder" / "eval_results.json", tmp_path / "r.jsonl", tmp_path / "r.jsonl.gz"]
    write_evalplus(files[0], ROWS, prompts=PROMPTS, plus=False)
    write_human_eval(files[1], ROWS)
    files[2].write_bytes(gzip.compress(files[1].read_bytes()))
    forms = ["evalplus", "evalplus", "human-eval", "human-eval"]
    for path, form in zip([files[0].parent, *files], forms, strict=True):
        found = read_evaluation(path)
        assert found.form == form
        assert found.results.pass_at_k[1].value == pytest.approx((1 / 3 + 2 / 3) / 2)
        assert (found.results.n_problems, found.results.samples_per_problem) == (2, 3)
        assert found.results.verdicts == {"passed": 3, "failed": 2, "timeout": 1}
        assert "benchmark" not in found.raw
        assert [r["passed"] for r in found.rows()] == [r["passed"] for r in ROWS]


def test_k_that_some_task_has_no_samples_for_is_left_out(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "sample": i} for i in range(10)] + [{**ROWS[4], "sample": i} for i in range(9)]
    write_human_eval(tmp_path / "r.jsonl", rows)
    found = read_evaluation(tmp_path / "r.jsonl").results
    assert list(found.pass_at_k) == [1] and found.samples_per_problem is None


def test_our_own_results_win_over_a_file_of_evalplus_beside_them(tmp_path: Path) -> None:
    folder = write_eval(tmp_path / "run", eval_results(0.0))
    write_evalplus(folder / "eval_results.json", ROWS, prompts=PROMPTS, plus=False)
    assert read_evaluation(folder).form == "codealign"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("results.json", "{}", "n_problems: Field required"),
        ("results.json", "3", "must hold a JSON object, got int"),
        ("results.json", '{"eval": {"t": []}}', "'t': a list of samples"),
        ("r.jsonl", "[]", r"r\.jsonl:1: a JSON object is needed"),
        ("results.json", '{"n_problems": 1, "pass_at_k": {"0": {"value": 1}}}', "greater than 0"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CodealignError, match=message):
        read_evaluation(tmp_path / name)


def test_a_row_without_a_verdict_is_named(tmp_path: Path) -> None:
    folder = write_eval(tmp_path / "run", eval_results(0.0))
    (folder / "sample_results.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"task_id": "t", "sample": 0}\n')
    with pytest.raises(CodealignError, match=r"sample_results\.jsonl:2: a row needs"):
        read_evaluation(folder).rows()


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"nowhere/results\.json does not exist"):
        read_evaluation(tmp_path / "nowhere")
    with pytest.raises(CodealignError, match=r"no such file: .*r\.jsonl"):
        read_evaluation(tmp_path / "r.jsonl")
