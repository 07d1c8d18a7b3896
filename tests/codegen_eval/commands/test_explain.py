"""`codealign explain`: what it prints and writes for run directories and other tools' files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment import cli
from codegen_eval.commands.explain import main
from codegen_eval.errors import CodealignError
from codegen_eval.formats.human_eval import write_human_eval
from codegen_eval.results import read_evaluation
from tests.codegen_eval.formats.rows import ROWS, row
from tests.codegen_eval.report.made_up import EVIL, write_eval


def write_run(folder: Path, rows: list[dict[str, Any]], **config: Any) -> Path:
    """A run directory of made-up rows; its figures are those of the rows."""
    file = folder.parent / f"{folder.name}.jsonl"
    write_human_eval(file, rows)
    write_eval(folder, {**read_evaluation(file).raw, "benchmark": "humaneval", "split": None})
    (folder / "sample_results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    protocol = json.loads((folder / "protocol.json").read_text())
    protocol["config"] |= config
    (folder / "protocol.json").write_text(json.dumps(protocol))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., list[str]]:
    """Two run directories of the given rows."""

    def make(a: list[dict[str, Any]], b: list[dict[str, Any]], **config: Any) -> list[str]:
        return [str(write_run(tmp_path / "a", a)), str(write_run(tmp_path / "b", b, **config))]

    return make


def test_limits_that_differ_are_found_to_be_the_cause(
    pair: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    other = [row(0, 0, "timeout", cause="cpu time"), *ROWS[1:]]
    assert main(pair(ROWS, other, cpu_seconds=0.5)) == 0
    said = capsys.readouterr().out
    assert "A: " in said and "3 of 6 samples right" in said and "2 of 6 samples right" in said
    assert "config: cpu_seconds: 3.0 in A, 0.5 in B" in said
    assert "samples: 5 are the same program with the same verdict" in said
    assert "1 samples of 1 problems: the same program, a time limit on one side (right in B alone 0" in said
    assert "=> verdicts changed at a limit, and the limits differ: cpu_seconds 3.0 in A and 0.5 in B" in said
    assert "HumanEval/0 sample 0: passed in A, timeout (cpu time) in B" in said


def test_equal_runs_have_nothing_to_explain(
    pair: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(pair(ROWS, ROWS))
    said = capsys.readouterr().out
    assert "protocols: no difference" in said
    assert "samples: 6 are the same program" in said
    assert "=>" not in said and "judged otherwise" not in said


def test_json_holds_every_change(pair: Callable[..., list[str]], tmp_path: Path) -> None:
    other = [row(0, 0, "wrong_answer"), row(0, 1, "wrong_answer", completion="new"), *ROWS[2:]]
    runs = pair(ROWS, other)
    target = tmp_path / "x.json"
    main([*runs, "--json", str(target), "--shown", "0"])
    found = json.loads(target.read_text())
    assert [(c["task_id"], c["cause"], c["gain"]) for c in found["changes"]] == [
        ("HumanEval/0", "verdict", -1),
        ("HumanEval/0", "sampling", 0),
        ("HumanEval/0", "sampling", 0),
    ]
    assert {row["cause"] for row in found["causes"]} == {"verdict", "sampling"}
    with pytest.raises(CodealignError, match="would replace an input"):
        main([*runs, "--json", f"{runs[1]}/sample_results.jsonl"])


def test_another_tool_s_file_is_explained_without_a_protocol(
    pair: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = pair(ROWS, ROWS)
    file = tmp_path / "theirs.jsonl"
    write_human_eval(file, [row(0, 0, "wrong_answer"), *ROWS[1:3]])
    main([runs[0], str(file)])
    said = capsys.readouterr().out
    assert "how they were measured is not known for both" in said
    assert "1 problems are in A alone, e.g. HumanEval/1" in said
    assert "HumanEval/0 sample 0: passed in A, failed (wrong_answer) in B" in said


def test_a_run_without_rows_says_so(
    pair: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = pair(ROWS, ROWS, cpu_seconds=9.0)
    (Path(runs[1]) / "sample_results.jsonl").unlink()
    main(runs)
    said = capsys.readouterr().out
    assert "cpu_seconds: 3.0 in A, 9.0 in B" in said
    assert "single samples are not known for both" in said


def test_hostile_rows_do_no_harm_to_the_terminal(
    pair: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    evil = [row(0, 0, "passed", task_id=EVIL, cause=EVIL), row(0, 1, "passed", task_id=EVIL)]
    other = [row(0, 0, "timeout", task_id=EVIL, cause=EVIL), row(0, 1, "passed", task_id=EVIL)]
    main(pair(evil, other, isolation=EVIL))
    said = capsys.readouterr().out
    assert not set("\x1b\x00\u202e") & set(said)
    assert "⟨U+001B⟩" in said


def test_the_console_script_knows_it(
    pair: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", *pair(ROWS, ROWS)]) == 0
    assert cli.main(["explain", "nowhere", "there"]) == 2
    assert "nowhere/results.json does not exist" in capsys.readouterr().err
