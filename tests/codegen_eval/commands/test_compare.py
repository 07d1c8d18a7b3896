"""`codealign compare`: what it prints and writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment import cli
from codegen_eval.commands.compare import CompareConfig, hints, main, run
from codegen_eval.commands.positional import with_flags
from codegen_eval.errors import CodealignError
from codegen_eval.formats.evalplus import write_evalplus
from codegen_eval.formats.human_eval import write_human_eval
from tests.codegen_eval.formats.rows import PROMPTS, ROWS, row
from tests.codegen_eval.report import made_up
from tests.codegen_eval.report.made_up import EVIL, eval_results


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two run directories; the second model is a little better."""
    sides = {"a": eval_results(0.0), "b": eval_results(0.03, seed=1)}
    return tuple(str(made_up.write_eval(tmp_path / n, r)) for n, r in sides.items())  # type: ignore[return-value]


def test_the_table_the_test_the_power_and_the_most_changed_are_printed(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*runs, "--shown", "2", "--resamples", "2000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"A: {runs[0]} (minipy, test, models/tiny-coder, 170 problems, 10 samples each)"
    assert lines[3].split() == ["A", "B", "difference", "95", "%", "interval", "p", "better/worse/same"]
    pass1 = lines[4].split()
    assert pass1[0] == "pass@1"
    assert sum(map(int, pass1[-1].split("/"))) == 170
    assert [line.split()[0] for line in lines[4:8]] == ["pass@1", "pass@5", "pass@10", "slow"]
    assert any("170 problems find a difference of" in line for line in lines)
    assert lines[-3].startswith("most changed of ")
    assert all(line.startswith("  minipy/") for line in lines[-2:])


def test_json_holds_every_figure_and_every_changed_problem(runs: tuple[str, str], tmp_path: Path) -> None:
    target = tmp_path / "new" / "found.json"
    assert main([*runs, "--json", str(target), "--resamples", "500"]) == 0
    found = json.loads(target.read_text())
    assert set(found["metrics"]) == {"pass@1", "pass@5", "pass@10", "slow_share"}
    changed = found["metrics"]["pass@1"]["higher"] + found["metrics"]["pass@1"]["lower"]
    assert len(found["changed"]) == changed
    assert (found["problems"], found["only_a"], found["unlike"]) == (170, 0, [])
    first = target.read_bytes()
    main([*runs, "--json", str(target), "--resamples", "500"])
    assert target.read_bytes() == first


def test_an_input_is_never_written_over(runs: tuple[str, str]) -> None:
    with pytest.raises(CodealignError, match="would replace an input"):
        main([*runs, "--json", f"{runs[0]}/results.json"])


def test_other_problems_are_refused_or_left_out_when_told_to(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(runs[1]) / "results.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"problems": content["problems"][5:]}))
    with pytest.raises(CodealignError, match=r"5 problems are in one run only.*--common"):
        main(list(runs))
    assert main(["--common", *runs]) == 0
    said = capsys.readouterr().out
    assert "only the 165 problems that both have are compared: 5 are in A alone, 0 in B alone" in said


def test_runs_that_were_not_made_alike_are_said_to_be(
    runs: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(runs[1]) / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": 0.2}))
    main(list(runs))
    assert "not made alike: temperature is 0.8 in A, 0.2 in B" in capsys.readouterr().out


def test_results_of_evalplus_and_human_eval_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, other = tmp_path / "s_eval_results.json", tmp_path / "s.jsonl_results.jsonl"
    rows = [{"base_verdict": "passed", **r} for r in ROWS]
    write_evalplus(theirs, rows, prompts=PROMPTS, plus=True)
    write_human_eval(other, [*ROWS[:5], row(1, 2, "timeout")])
    assert main([str(theirs), str(other)]) == 0
    said = capsys.readouterr().out
    assert "2 problems, 3 samples each, read from evalplus's file" in said
    assert "50.0 %  33.3 %" in said
    base = run(CompareConfig(a=theirs, b=other, base=True))
    assert base["metrics"]["pass@1"]["before"] == 1.0


def test_eff_at_k_is_shown_where_both_have_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, skill in (("a", 0.0), ("b", 0.1)):
        results: dict[str, Any] = eval_results(skill, n_problems=20)
        for problem in results["problems"]:
            problem["eff"] = [0.5] * problem["c"] + [0.0] * (10 - problem["c"])
        results["eff_at_k"] = {"1": {"value": 0.2, "low": 0.1, "high": 0.3}}
        made_up.write_eval(tmp_path / name, results)
    main([str(tmp_path / "a"), str(tmp_path / "b")])
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    assert float(rows["eff@1"][1]) == pytest.approx(float(rows["pass@1"][1]) / 2, abs=0.06)


def test_a_hostile_result_does_no_harm_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        made_up.write_eval(tmp_path / name, made_up.hostile_results(0.1 * seed, seed=seed))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x00" not in said and "\u202e" not in said
    assert "⟨U+001B⟩" in said
    assert EVIL.split("<")[1] in said


def test_power_is_hinted_at_only_where_the_interval_holds_0() -> None:
    row = {"low": -0.01, "high": 0.02, "difference": 0.005, "detectable": 0.0432, "needed": 61_092}
    rows = {"pass@1": {**row, "problems": 164}, "slow_share": {**row, "low": 0.001, "problems": 164}}
    assert hints(rows) == [
        "pass@1: 164 problems find a difference of 4.3 points or more with 80 % power; "
        "one of 0.5 needs about 61,000 problems"
    ]


def test_the_console_script_knows_it(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *runs, "--resamples", "200"]) == 0
    assert cli.main(["compare", runs[0]]) == 2
    assert "--b" in capsys.readouterr().err
    assert cli.main(["compare", *runs, "third"]) == 2
    assert "expected A and B, got 3 names" in capsys.readouterr().err
    assert cli.main(["compare", runs[0], "nowhere"]) == 2
    assert "nowhere/results.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["x", "y"], ["--a", "x", "--b", "y"]),
        (["--common", "x", "y"], ["--a", "x", "--b", "y", "--common"]),
        (["--json", "f", "x", "--seed=3", "y"], ["--a", "x", "--b", "y", "--json-file", "f", "--seed=3"]),
        (["--json=f", "--b", "y", "--a", "x"], ["--json-file=f", "--b", "y", "--a", "x"]),
        (["x", "--no-common", "y"], ["--a", "x", "--b", "y", "--no-common"]),
        (["--config", "--json", "x"], ["--a", "x", "--config", "--json"]),
        (["--help"], ["--help"]),
    ],
)
def test_words_without_a_flag_are_given_theirs(given: list[str], named: list[str]) -> None:
    assert with_flags(given, ("a", "b"), CompareConfig) == named
