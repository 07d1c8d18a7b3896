"""Restarts: which ends are mended by one, how many there are, and that the run's log has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment.health.events import FOLDER, read_events, record
from alignment.health.restart import HANG_STATUS, restarting


def job(*statuses: int) -> tuple[list[int], object]:
    left = list(statuses)
    return left, lambda: left.pop(0)


@pytest.mark.parametrize("status", [0, 2, 130, 143])
def test_what_ended_well_or_by_the_user_is_not_started_again(status: int) -> None:
    left, run = job(status, 0)
    assert restarting(run, 5, None, sleep=lambda _: None) == status  # type: ignore[arg-type]
    assert left == [0]


def test_crashes_are_started_again_until_the_restarts_are_used_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "protocol.json").touch()
    waits: list[float] = []
    left, run = job(137, HANG_STATUS, 1, 0)
    assert restarting(run, 2, tmp_path, sleep=waits.append) == 1  # type: ignore[arg-type]
    assert left == [0] and waits == [1, 2]
    said = capsys.readouterr().err
    assert "status 137); restart 1 of 2 in 1 s" in said and "(it hung); restart 2 of 2" in said
    kinds = [(e.kind, e.facts["status"]) for e in read_events(tmp_path / FOLDER)]
    assert kinds == [("ended", 137), ("restart", 137), ("ended", 75), ("restart", 75), ("ended", 1)]


def test_a_directory_that_is_not_a_run_yet_stays_empty(tmp_path: Path) -> None:
    _, run = job(1, 0)
    assert restarting(run, 1, tmp_path, sleep=lambda _: None) == 0  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_events_survive_a_torn_line_and_strange_values(tmp_path: Path) -> None:
    record(tmp_path, "rank_0", "nan", loss=float("nan"), path=tmp_path)
    with (tmp_path / "events_rank_0.jsonl").open("a") as file:
        file.write('{"kind": "torn by a k')
    record(tmp_path, "rank_0", "restart", number=1)
    record(tmp_path / "events_rank_0.jsonl", "rank_1", "nowhere")  # not a folder: no error
    found = read_events(tmp_path)
    assert [event.kind for event in found] == ["nan", "restart"]
    assert found[0].facts == {"loss": None, "path": str(tmp_path)} and found[0].time <= found[1].time
