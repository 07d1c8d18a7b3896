"""`codealign status`: what it makes of the files of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from alignment import status_command
from alignment.health.beats import Beat, write_beat
from alignment.health.events import FOLDER, record
from codegen_eval.errors import CodealignError


def beat(rank: int, **changes: object) -> Beat:
    values: dict[str, object] = {"rank": rank, "world": 2, "host": "a", "pid": 1, "time": time.time()}
    return Beat(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / FOLDER
    write_beat(folder, beat(0, step=9, max_steps=80, loss=0.5, step_seconds=1.0, phases={"forward": 0.2}))
    write_beat(
        folder,
        beat(1, step=7, time=time.time() - 300, step_seconds=1.0, phases={"forward": 0.6}, phase="reward"),
    )
    record(folder, "rank_0", "nan", step=4, action="skip")
    record(folder, "rank_0", "failed", error="bad \x1b]0;title\x07 text of a model")
    return tmp_path


def test_silent_slow_and_waiting_ranks_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_command.main([str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in found["ranks"]] == ["running", "silent"]
    assert found["ranks"][0]["waiting"] == pytest.approx(0.4) and found["ranks"][1]["waiting"] == 0
    assert [(s["rank"], s["phase"]) for s in found["stragglers"]] == [(1, "forward")]
    assert found["events"] == {"nan": 1, "failed": 1} and found["finished"] is False


def test_the_page_has_a_row_a_rank_and_no_terminal_escapes_of_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_command.main([str(run)]) == 0
    shown = capsys.readouterr().out
    assert "9/80" in shown and "silent" in shown and "rank 1 is slow in forward" in shown
    assert "events: failed 1, nan 1" in shown
    assert "\x1b]0" not in shown and "\x07" not in shown and "⟨U+001B⟩" in shown


def test_ranks_of_an_earlier_larger_launch_are_not_shown(run: Path) -> None:
    write_beat(run / FOLDER, beat(0, world=1, step=12))
    assert [row["rank"] for row in status_command.look(run)["ranks"]] == [0]


def test_a_folder_that_is_no_watched_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="no such run directory"):
        status_command.main([str(tmp_path / "none")])
    with pytest.raises(CodealignError, match="has no health/"):
        status_command.main([str(tmp_path)])


def test_stacks_that_nobody_gives_are_said(run: Path) -> None:
    said = status_command.ask_stacks(run / FOLDER, 2, timeout=0.1)
    assert said.splitlines() == ["stacks_rank_0: no answer", "", "stacks_rank_1: no answer"]
