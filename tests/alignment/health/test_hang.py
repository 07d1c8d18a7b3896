"""Hangs: two processes of which one sleeps for ever; the stacks of both are in one report, and both end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alignment.health import hang as hangs
from alignment.health.beats import read_beats
from alignment.health.events import read_events
from alignment.health.hang import Hang, raise_flag, read_flag
from alignment.health.monitor import Monitor, phase
from alignment.health.options import HealthOptions
from alignment.health.restart import HANG_STATUS
from tests.conftest import REPO

# A rank that steps while its file `go` is there, then does what it was told.
RANK = """
import sys, time
from pathlib import Path
from alignment.health.monitor import Monitor, phase
from alignment.health.options import HealthOptions
folder, rank, what = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
options = HealthOptions(hang_timeout=1.5, heartbeat_seconds=0.2)

def reward_that_never_returns():
    with phase("reward"):
        time.sleep(1e6)

def wait_for_the_others():
    while True:
        time.sleep(0.05)

def hold_the_interpreter():
    import re
    re.match(r"(a+)+$", "a" * 40 + "b")  # one call into C, without end

with Monitor(folder, rank, 2, options) as monitor:
    for step in range(1, 4):
        monitor.mark("forward"); time.sleep(0.02); monitor.step_done(step, 10)
    (folder / f"ready_{rank}").touch()
    {"reward": reward_that_never_returns, "wait": wait_for_the_others, "hold": hold_the_interpreter}[what]()
"""


def start(folder: Path, *roles: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(folder), str(rank), role],
            cwd=REPO,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, role in enumerate(roles)
    ]


def test_a_rank_that_sleeps_for_ever_ends_all_ranks_with_the_stacks_of_all(tmp_path: Path) -> None:
    ranks = start(tmp_path, "wait", "reward")
    said = "".join(rank.communicate(timeout=60)[1] for rank in ranks)
    assert [rank.returncode for rank in ranks] == [HANG_STATUS] * 2
    report = (tmp_path / hangs.REPORT).read_text()
    assert report in said, "the report is in the log, once"
    assert "the stacks of all 2 ranks follow" in said
    assert "in wait_for_the_others" in said and "in reward_that_never_returns" in said
    assert "--- rank 1: step 3, reward" in said
    assert [e.kind for e in read_events(tmp_path)] == ["hang"]
    assert {beat.state for beat in read_beats(tmp_path)} == {"hung"}


def test_a_rank_that_is_gone_is_named_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = start(tmp_path, "wait", "wait")
    deadline = time.monotonic() + 40
    while not all((tmp_path / f"ready_{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(ranks[1].pid, signal.SIGKILL)
    said = ranks[0].communicate(timeout=60)[1]
    ranks[1].communicate()
    assert ranks[0].returncode == HANG_STATUS
    assert "[rank 1] no stacks within" in said and "its process or machine is gone" in said


def test_only_the_first_to_see_a_hang_reports_it_and_old_flags_are_nothing(tmp_path: Path) -> None:
    now = time.time()
    assert raise_flag(tmp_path, Hang(1, now, 3, "reward", 9.0), now - 1)
    assert not raise_flag(tmp_path, Hang(0, now, 3, "backward", 9.0), now - 1)
    seen = read_flag(tmp_path, now - 1)
    assert seen is not None and seen.rank == 1
    assert read_flag(tmp_path, now + 1) is None, "of an earlier attempt"
    assert raise_flag(tmp_path, Hang(0, now + 2, 3, "backward", 9.0), now + 1)
    (tmp_path / hangs.FLAG).write_text("torn {")
    assert read_flag(tmp_path, 0) is None


def test_the_timeout_grows_with_the_steps(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, 0, 1, HealthOptions(hang_timeout=5))
    assert monitor.limit() == 5
    monitor._lengths.extend([2.0, 3.0, 100.0])
    assert monitor.limit() == 30


def test_phases_are_counted_where_they_happen_and_nesting_comes_back(tmp_path: Path) -> None:
    ended: list[int] = []
    with phase("reward"):
        pass  # nobody watches: nothing happens
    options = HealthOptions(hang_timeout=0, heartbeat_seconds=0.1)
    with Monitor(tmp_path, 0, 1, options, end=ended.append) as monitor:
        monitor.mark("forward")
        with phase("reward"):
            assert monitor.phase == "reward"
            time.sleep(0.2)
        assert monitor.phase == "forward"
        monitor.step_done(1, 2)
    beat = read_beats(tmp_path)[0]
    assert beat.state == "finished" and (beat.step, beat.max_steps) == (1, 2)
    assert beat.phases["reward"] >= 0.2 > beat.phases["forward"]
    assert not ended and not list(tmp_path.glob("stuck*"))


def test_a_failure_is_the_last_beat_and_an_event(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Monitor(tmp_path, 3, 4, HealthOptions()) as monitor:
        monitor.step_done(7)
        raise ZeroDivisionError("reward of row 5")
    assert read_beats(tmp_path)[0].state == "failed"
    event = read_events(tmp_path)[0]
    assert (event.kind, event.writer) == ("failed", "rank_3")
    assert event.facts == {"error": "ZeroDivisionError: reward of row 5", "step": 7, "phase": "data"}


@pytest.mark.slow
def test_an_interpreter_that_never_comes_back_from_c_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = RANK.replace(
        "with Monitor(", "import alignment.health.monitor as m; m._STUCK = 1.0\nwith Monitor("
    )
    rank = subprocess.Popen([sys.executable, "-c", command, str(tmp_path), "0", "hold"], cwd=REPO)
    assert rank.wait(timeout=60) == 1
    assert "in hold_the_interpreter" in (tmp_path / "stuck_rank_0.txt").read_text()


def test_options_with_which_nothing_is_watched_are_refused() -> None:
    from codegen_eval.errors import CodealignError

    for wrong in (
        {"hang_timeout": float("nan")},
        {"heartbeat_seconds": 0.0},
        {"on_nan": "ignore"},
        {"straggler_steps": -1},
        {"peak_tflops": 0.0},
    ):
        with pytest.raises(CodealignError, match=f"--{next(iter(wrong))} must be"):
            HealthOptions(**wrong)  # type: ignore[arg-type]


def test_a_beat_of_garbage_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "rank_0.json").write_text("torn {")
    (tmp_path / "rank_1.json").write_text('["a list"]')
    (tmp_path / "rank_2.json").write_text(json.dumps({"rank": 2, "world": 3}))
    assert read_beats(tmp_path) == []
