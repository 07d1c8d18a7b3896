"""J curves and regret on the report's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.commands.report import main
from codegen_eval.errors import CodealignError
from codegen_eval.report.thinking import load_thinking, thinking_plots


def results(**changes: Any) -> dict[str, Any]:
    arm = {"j": [0.1, 0.5, 0.9], "accuracy_at": [0.1, 0.4, 0.8], "regret": {"15.0": 0.75, "30.0": 0.25}}
    arms = {"base": arm, "<script>alert(1)</script>": {**arm, "j": [0.2, 0.6, 1.0]}}
    return {"grid": [0, 3, 6], "budgets": [15.0, 30.0], "arms": arms, **changes}


def write(folder: Path, content: Any) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    return folder


def test_the_figures_hold_every_arms_numbers_and_no_markup_of_theirs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    j, regret, accuracy = thinking_plots(load_thinking(write(tmp_path / "run", results())))
    assert j.rows[1] == ("3", "0.5", "0.6")
    assert regret.rows == (
        ("15", "0.75", "0.75"),
        ("30", "0.25", "0.25"),
    )
    assert accuracy.rows[2][1] == "0.8" and regret.header[1] == "base"
    assert "<script>" not in j.svg and "style=" not in j.svg
    assert thinking_plots(None) == []
    folder = tmp_path / "page"
    assert main(["--out", str(folder), "--thinking", str(tmp_path / "run")]) == 0
    page = (folder / "report.html").read_text()
    assert "Regret by budget" in page and "<script>alert" not in page


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        results(grid=[0, 3]),
        results(budgets=[9.0]),
        results(arms={"base": {}}),
        results(arms=3),
        results(grid=[0, 3, None]),
    ],
)
def test_results_of_something_else_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CodealignError, match=r"results\.json"):
        load_thinking(write(tmp_path / "run", content))
    with pytest.raises(CodealignError, match="reproduce mrt"):
        load_thinking(tmp_path)
