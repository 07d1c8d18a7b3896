"""The table and the curves say what the rows of a run hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.onpolicy_minipy import HEADER, curves, line


def rows(first: float) -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "reward/sampled": first + 0.01 * step,
            "objective/kl": 0.1 * step,
            "completions/clipped_ratio": 0.0,
            "time/step": 2.0,
        }
        for step in range(1, 11)
    ]


def test_a_line_averages_the_steps_at_either_end_and_shows_the_paired_difference() -> None:
    gain = {"before": 0.5, "after": 0.6, "difference": 0.1, "low": 0.05, "high": 0.15}
    cells = dict(zip(HEADER, line("remax", 3, rows(0.5), {"pass@1": gain}), strict=True))
    assert cells["reward"] == "0.530 -> 0.580"  # steps 1 to 5 and 6 to 10
    assert cells["KL"] == "1.00" and cells["s a step"] == "2.0" and cells["seed"] == "3"
    assert cells["difference"] == "+0.100 [+0.050, +0.150]" and cells["slow share"] == ""


def test_the_curves_have_a_panel_a_method_and_a_line_a_seed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = {("remax", 0): rows(0.5), ("remax", 1): rows(0.4), ("ppo", 0): rows(0.3)}
    curves(found, tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert text.count(">remax<") == 1 and text.count(">ppo<") == 1 and ">seed 1<" in text
