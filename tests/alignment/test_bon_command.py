"""`codealign bon`: from a pool's file to figures, table and plot; scales are never mixed unasked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from alignment import cli
from alignment.bon import rank_pool
from alignment.bon_command import BonConfig, run
from codegen_eval.errors import CodealignError


def pool(path: Path, *, gold: bool = True, rates: bool = False, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    rows = []
    for task in range(6):
        for _ in range(16):
            right = rng.random() < 0.4
            drawn = (
                rng.binomial(4, 0.9 if right else 0.5, size=3) / 4 if rates else rng.normal(size=3) + right
            )
            scores = {f"suite{j}": value for j, value in enumerate(drawn.tolist())}
            rows.append({"task_id": f"t{task}", "scores": scores, **({"gold": float(right)} if gold else {})})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_writes_figures_table_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    scale = pool(tmp_path / "scale.jsonl", gold=False, seed=1)
    command = ["bon", "--pool", str(pool(tmp_path / "pool.jsonl")), "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--calibration", str(scale)]) == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "run/curves.json").read_text())
    assert [c["selector"] for c in found["curves"]] == ["single", "mean", "wco", "uwo"]
    assert found["curves"][0]["n"] == [1, 2, 4, 8, 16] and found["prompts"] == 6
    assert "| n | KL | single | mean | wco | uwo |" in out
    assert (tmp_path / "run/curves.svg").read_text().startswith("<?xml")
    before = (tmp_path / "run/curves.json").stat().st_mtime_ns
    assert cli.main([*command, "--calibration", str(scale)]) == 0, "the same command again is done already"
    assert (tmp_path / "run/curves.json").stat().st_mtime_ns == before


def test_members_on_no_common_scale_are_refused(tmp_path: Path) -> None:
    path = pool(tmp_path / "pool.jsonl")
    with pytest.raises(CodealignError, match=r"3 members are on no common scale.*--uncalibrated"):
        run(BonConfig(pool=path, out=tmp_path / "run"))
    run(BonConfig(pool=path, out=tmp_path / "single", select=("single",), plot=False))


def test_pass_rates_tie_and_the_rule_decides(tmp_path: Path) -> None:
    path = pool(tmp_path / "pool.jsonl", rates=True)
    ends = {}
    for ties in ("average", "first", "last"):
        options = {"ties": ties, "n": (1, 16), "select": ("wco",), "uncalibrated": True, "plot": False}
        directory = run(BonConfig(pool=path, out=tmp_path / ties, **options))
        ends[ties] = directory.read_json("curves.json")["curves"][0]["gold"]
    assert len({tuple(gold) for gold in ends.values()}) > 1
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    worst = np.array([min(row["scores"].values()) for row in rows]).reshape(6, 16)
    gold = np.array([row["gold"] for row in rows]).reshape(6, 16)
    assert ends["average"] == pytest.approx(rank_pool(worst, gold).curve([1, 16])[0].mean(axis=0).tolist())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--n", "17"], "the pool has 16"),
        (["--n", "0"], "n=0"),
        (["--ties", "lowest"], "unknown tie rule 'lowest'"),
        (["--select", "worst"], "unknown selector 'worst'"),
        (["--lam", "-1"], "--lam"),
        (["--lam", "nan"], "--lam"),
        (["--ddof", "2"], "--ddof"),
        (["--tie", "last"], "did you mean '--ties'"),
        (["--calibration", "absent.jsonl"], "absent.jsonl"),
    ],
)
def test_options_that_mean_nothing_are_one_plain_message(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bon", "--pool", str(pool(tmp_path / "pool.jsonl")), "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--uncalibrated", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_without_a_pool_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bon", "--pool", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "run")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
