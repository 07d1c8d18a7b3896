"""The MRT study: its statistics by hand, its page, resuming by arm, and its arms on a small world."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment.studies import mrt, mrt_page
from alignment.studies.mrt_arms import ARMS, GRID, Sizes, measured
from alignment.studies.mrt_page import BEGIN, END, holds, interval, results_of, table, write_page
from alignment.studies.mrt_world import BaseRecipe
from codegen_eval.errors import CodealignError
from tests.alignment.mrt.made_up import trained

SMALL = replace(
    Sizes(),
    rounds=1,
    questions=40,
    stops=2,
    updates=3,
    batch=9,
    rl_steps=2,
    rl_questions=4,
    eval_questions=6,
    extensions=1,
    thinking_length=40,
)


def row(seed: int, arm: str, regret: float, accuracy: float = 0.5) -> dict[str, Any]:
    by = {str(b): regret for b in mrt.BUDGETS}
    return {
        **{"seed": seed, "arm": arm, "accuracy": accuracy, "episodes": 5.0, "tokens": 15.0},
        **{"trace_tokens": 1000, "stop_tokens": 0, "regret": by, "regret_beyond": by},
        **{name: [0.5] * len(GRID) for name in ("j", "j_beyond", "accuracy_at")},
        "episode_regret": [0.5] * 12,
    }


def test_the_interval_is_students_over_seeds() -> None:
    # t(0.975, 4) = 2.776; deviation of -2..2 is sqrt(2.5).
    mean, low, high = interval([-3.0, -2.0, -1.0, 0.0, 1.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((-1.0, -1 - half, -1 + half))
    assert interval([1.0])[0] == 1.0 and math.isnan(interval([1.0])[1])
    with pytest.raises(CodealignError, match="at least one seed"):
        interval([])


def test_differences_are_paired_by_seed_and_only_over_seeds_that_both_have() -> None:
    rows = [row(s, "star", 0.8 + 0.01 * s) for s in range(3)]
    rows += [row(s, "mrt-star", 0.7 + 0.01 * s + 0.001 * (s == 1)) for s in range(4)]
    results = results_of(rows, mrt.BUDGETS)
    found = results["differences"]["mrt-star"]
    assert found["seeds"] == [0, 1, 2] and found["21.0"][3:] == pytest.approx([-0.1, -0.099, -0.1])
    assert all(holds(results).values()) and len(holds(results)) == 3
    worse = results_of(
        rows[:3] + [row(s, "mrt-star", r) for s, r in enumerate((0.9, 0.5, 0.75))], mrt.BUDGETS
    )
    assert not any(holds(worse).values()), "the mean is lower, the interval is not"
    assert holds(results, "mrt-rl") == {}, "an arm that was not run has no claim"
    text = table(results)
    assert "- yes: mrt-star has less regret than star at 21 tokens" in text and "3 of 3 below 0" in text


def test_one_seed_gives_no_interval_and_one_line() -> None:
    results = results_of([row(0, "star", 0.8), row(0, "mrt-star", 0.7)], mrt.BUDGETS)
    assert "| mrt-star | star | -0.100 |" in table(results)


def test_figures_are_svg_and_equal_for_equal_numbers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results = results_of([row(s, a, 0.7) for s in (0, 1) for a in ("base", "star", "mrt-star")], mrt.BUDGETS)
    for folder in ("a", "b"):
        mrt_page.draw_all(results, tmp_path / folder)
    for name in ("mrt_j.svg", "mrt_regret.svg", "mrt_accuracy.svg"):
        drawn = (tmp_path / "a" / name).read_bytes()
        assert ET.fromstring(drawn).tag.endswith("svg") and drawn == (tmp_path / "b" / name).read_bytes()


def test_a_page_gets_the_table_between_its_marks_or_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "p.md"
    page.write_text(f"a\n{BEGIN}\nold\n{END}\nz\n")
    write_page(page, "new")
    assert page.read_text() == f"a\n{BEGIN}\nnew\n{END}\nz\n"
    page.write_text(f"{END}{BEGIN}")
    with pytest.raises(CodealignError, match="once each"):
        write_page(page, "new")
    with pytest.raises(CodealignError, match="no such page"):
        write_page(tmp_path / "none.md", "new")


def test_an_unknown_arm_gets_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="mrt-star"):
        mrt.MRTConfig.parse(["--out", str(tmp_path), "--arms", "mrt-sta"], prog="x", description="")
    assert mrt.MRTConfig(arms=("star",)).arms == ("base", "star"), "the base comes with every arm"


@pytest.mark.slow
@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_trains_a_copy_and_is_measured(arm: str) -> None:
    base, tokenizer = trained()
    before = [p.detach().clone() for p in base.parameters()]
    model, spent = ARMS[arm](base, tokenizer, SMALL, 0)
    assert all(bool((a == b).all()) for a, b in zip(before, base.parameters(), strict=True))
    moved = any(not bool((a == b).all()) for a, b in zip(before, model.parameters(), strict=True))
    assert moved == (arm != "base") == (spent.trace_tokens > 0)
    assert (spent.stop_tokens > 0) == arm.startswith("mrt")
    found = measured(model, tokenizer, SMALL, 0, mrt.BUDGETS)
    assert all(0 <= value <= 1 for value in [*found["regret"].values(), *found["j"], *found["accuracy_at"]])
    assert found["tokens_beyond"] >= found["tokens"] and len(found["episode_regret"]) == 12


@pytest.mark.slow
def test_the_command_goes_on_with_the_arm_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    sizes = replace(SMALL, base=BaseRecipe(steps=100, rows=24, learning_rate=8e-3, width=32, layers=1))
    monkeypatch.setattr(mrt.MRTConfig, "sizes", lambda self: sizes)
    asked = ["--seeds", "1", "--arms", "star", "mrt-star"]
    real, stopped = ARMS["mrt-star"], tmp_path / "stopped"

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(ARMS, "mrt-star", stop)
    with pytest.raises(KeyboardInterrupt):
        mrt.main(["--out", str(stopped), *asked])
    assert (stopped / "star-0.jsonl").exists() and not (stopped / "results.json").exists()
    monkeypatch.setitem(ARMS, "mrt-star", real)
    monkeypatch.setitem(ARMS, "star", stop)  # it is there and must not be run again
    assert mrt.main(["--out", str(stopped), *asked]) == 0
    assert "| mrt-star | star |" in capsys.readouterr().out
    results = json.loads((stopped / "results.json").read_text())
    assert set(results["arms"]) == {"base", "star", "mrt-star"}
    assert (stopped / "mrt_regret.svg").exists()
