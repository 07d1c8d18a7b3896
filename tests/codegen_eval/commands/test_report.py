from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_eval.commands.report import ReportConfig, main, run
from codegen_eval.errors import CodealignError
from codegen_eval.formats.evalplus import write_evalplus
from codegen_eval.formats.human_eval import write_human_eval
from tests.codegen_eval.formats.rows import PROMPTS, ROWS, row
from tests.codegen_eval.report.made_up import eval_results, pair_row, sample_rows
from tests.codegen_eval.report.made_up_data import data_pair, matrix_row, write_data
from tests.codegen_eval.report.strict_html import StrictPage

pytest.importorskip("matplotlib")
pytest.importorskip("pygments")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Run directories named before, after, pairs and train."""
    files = {
        "before/results.json": json.dumps(eval_results(0.0)),
        "after/results.json": json.dumps(eval_results(0.14, seed=1)),
        "pairs/pairs.jsonl": json.dumps(pair_row(0)) + "\n",
        "train/metrics.jsonl": '{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return tmp_path


def arguments(runs: Path, *names: str) -> list[str]:
    return [part for name in names for part in (f"--{name}", str(runs / name))] + ["--out", str(runs / "out")]


def test_the_command_writes_the_page_and_prints_its_path(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(runs, "before", "after", "pairs", "train")) == 0
    page = runs / "out" / "report.html"
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert "pass@1 rose" in page.read_text()
    assert {"config.yaml", "protocol.json"} <= {file.name for file in page.parent.iterdir()}


def test_before_alone_is_enough(runs: Path) -> None:
    assert main(arguments(runs, "before")) == 0


def test_a_finished_report_is_kept_and_other_inputs_are_refused(runs: Path) -> None:
    config = ReportConfig(before=runs / "before", after=runs / "after", out=runs / "out")
    page = run(config).path / "report.html"
    first = page.stat().st_mtime_ns
    run(config)
    assert page.stat().st_mtime_ns == first
    (runs / "after" / "results.json").write_text(json.dumps(eval_results(0.2, seed=2)))
    with pytest.raises(CodealignError, match="content of after"):
        run(config)
    run(config.model_copy(update={"overwrite": True}))
    assert page.stat().st_mtime_ns != first


def test_a_kill_before_the_end_is_taken_up_with_the_same_bytes(runs: Path) -> None:
    config = ReportConfig(
        before=runs / "before", after=runs / "after", pairs=runs / "pairs", out=runs / "out"
    )
    folder = run(config).path
    page = (folder / "report.html").read_bytes()
    (folder / "finished.json").unlink()
    (folder / "report.html").unlink()
    run(config)
    assert (folder / "report.html").read_bytes() == page


def test_runs_of_different_problems_are_refused_and_nothing_is_written(runs: Path) -> None:
    (runs / "after" / "results.json").write_text(json.dumps(eval_results(0.1, n_problems=20)))
    with pytest.raises(CodealignError, match="150 problems are in one run only"):
        main(arguments(runs, "before", "after"))
    assert not (runs / "out").exists()


def test_a_missing_run_is_named(runs: Path) -> None:
    with pytest.raises(CodealignError, match=r"nowhere/results\.json does not exist"):
        run(ReportConfig(before=runs / "nowhere", out=runs / "out"))
    assert not (runs / "out").exists()


def test_results_of_evalplus_and_human_eval_make_a_page(tmp_path: Path) -> None:
    before, after = tmp_path / "s_eval_results.json", tmp_path / "s.jsonl_results.jsonl"
    write_evalplus(before, ROWS, prompts=PROMPTS, plus=False)
    write_human_eval(after, [*ROWS[:5], row(1, 2, "timeout")])
    assert main(["--before", str(before), "--after", str(after), "--out", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert StrictPage(page).problems == []
    assert "HumanEval/1" in page and "v-failed" in page and "1 timeout" in page


def test_other_rows_make_another_page(runs: Path) -> None:
    results = json.loads((runs / "before" / "results.json").read_text())
    rows = sample_rows(results)
    file = runs / "before" / "sample_results.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = ReportConfig(before=runs / "before", out=runs / "out", samples_shown=1)
    assert "first failing test" in (run(config).path / "report.html").read_text()
    file.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(CodealignError, match="content of before_rows"):
        run(config)


def test_preference_data_alone_is_enough_and_other_matrices_make_another_page(tmp_path: Path) -> None:
    row = matrix_row("t", ["110", "100", "000"])
    data = write_data(tmp_path / "q", [row], [data_pair(row, 0, 2)], problem_with_pairs=1)
    config = ReportConfig(pairs=data, out=tmp_path / "out", matrices_shown=1)
    page = (run(config).path / "report.html").read_text()
    assert StrictPage(page).problems == []
    assert 'class="matrix"' in page and "Result" not in page
    other = matrix_row("t", ["111", "100", "000"])
    (data / "matrices/matrices.jsonl").write_text(json.dumps(other) + "\n")
    with pytest.raises(CodealignError, match="content of matrices"):
        run(config)


@pytest.mark.parametrize("given", [(), ("after",), ("after", "pairs"), ("train",)])
def test_a_report_on_nothing_is_refused(runs: Path, given: tuple[str, ...]) -> None:
    with pytest.raises(CodealignError, match="give --before"):
        main(arguments(runs, *given))
    assert not (runs / "out").exists()
