"""`codealign reproduce b4`: small runs, resuming, the page, and what goes wrong."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from alignment.cli import main
from alignment.studies import b4
from alignment.studies.b4_page import BEGIN, END, EXPECTED, deviation, write_page
from alignment.studies.reproduce import main as reproduce
from codegen_eval.errors import CodealignError
from codegen_eval.ranking.common import make_view


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {name: b4.SETTINGS[name] for name in (b4.DEFAULT, "N=5")}
    monkeypatch.setattr(b4, "SETTINGS", settings)


def config(folder: Path, **options: object) -> b4.B4Config:
    sizes = {"trials": 400, "setting_trials": 50, "calibration_trials": 200}
    return b4.B4Config(out=folder, **{**sizes, **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_default_setting_comes_near_the_authors_figures(small: None, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    run_dir = b4.run(config(tmp_path / "run", page=page))
    of = json.loads((run_dir.path / "results.json").read_text())["settings"]["default"]
    assert of["trials"] == 400
    for name, expected in EXPECTED.items():
        # 400 trials: three standard errors; b4's own error is small, so at least a hundredth.
        assert abs(of[name]["success"] - expected) < max(3.5 * of[name]["error"], 0.012), name
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| B4 | " in text and "programs, fitted" in text
    for figure in ("b4_settings.svg", "b4_reliability.svg"):
        drawn = (tmp_path / "img" / figure).read_bytes()
        assert ET.fromstring(drawn).tag.endswith("svg") and drawn == (run_dir.path / figure).read_bytes()
    again = b4.run(config(tmp_path / "again"))
    assert (again.path / "results.json").read_bytes() == (run_dir.path / "results.json").read_bytes()
    assert (again.path / "b4_settings.svg").read_bytes() == (run_dir.path / "b4_settings.svg").read_bytes()


def test_random_is_the_share_of_right_programs() -> None:
    right = np.array([True, False, False, False])
    view = make_view(np.eye(4))
    assert b4.success("random", view, right) == 0.25
    assert b4.success("maxpass", view, right) == 0.25  # all tie


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(CodealignError, match="once each; nothing was written"):
        write_page(page, "x")
    assert page.read_text() == "nothing here\n"


def test_deviation_counts_standard_errors() -> None:
    assert deviation({"success": 0.6, "error": 0.05}, 0.5) == pytest.approx(2.0)
    assert deviation({"success": 0.6, "error": 0.0}, 0.5) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "name the study first"), (["b5"], "did you mean 'b4'"), (["--out", "x"], "name the study first")],
)
def test_an_unknown_study_is_an_error(arguments: list[str], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        reproduce(arguments)


def test_help_lists_the_studies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--help"]) == 0
    assert "b4" in capsys.readouterr().out
