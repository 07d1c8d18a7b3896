"""Training health on the page: every fault accounted for, waiting by ranks, hostile files harmless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen_eval.commands.report import ReportConfig, run
from codegen_eval.errors import CodealignError
from codegen_eval.report.health import load_health
from tests.codegen_eval.report.strict_html import StrictPage

BEAT = {"world": 2, "time": 50.0, "state": "finished", "step": 40, "max_steps": 40, "step_seconds": 2.0}
EVENTS: dict[str, list[dict[str, Any]]] = {
    "rank_0": [
        {"kind": "nan", "time": 1.0, "step": 3, "action": "skip"},
        {"kind": "nan", "time": 2.0, "step": 5, "action": "skip"},
        {"kind": "spike", "time": 3.0, "step": 6, "action": "warn"},
        {"kind": "slow_save", "time": 4.0, "seconds": 400.0},
        {"kind": "slow_save", "time": 5.0, "seconds": 350.0},
        {"kind": "hang", "time": 6.0, "step": 9, "phase": "reward"},
        {"kind": "torn_checkpoint", "time": 9.0, "checkpoint": "checkpoint-8", "reason": "<b>cut</b>"},
        {"kind": "straggler", "time": 10.0, "slow_rank": 1, "phase": "rollout"},
        {"kind": "failed", "time": 11.0, "error": "OSError"},
    ],
    "front_a": [
        {"kind": "ended", "time": 7.0, "status": 75},
        {"kind": "restart", "time": 8.0},
        {"kind": "ended", "time": 12.0, "status": 1},
    ],
}


def made(folder: Path, *, state: str = "finished") -> Path:
    health = folder / "health"
    health.mkdir(parents=True)
    for rank, rollout in ((0, 0.5), (1, 1.5)):
        phases = {"rollout": rollout, "update": 0.25}
        beat = {"rank": rank, **BEAT, "state": state, "phases": phases, "tokens_per_second": 1234.4}
        (health / f"rank_{rank}.json").write_text(json.dumps(beat))
    # What an earlier run of three processes left.
    (health / "rank_2.json").write_text(json.dumps({**BEAT, "rank": 2, "world": 3, "time": 1.0}))
    for writer, rows in EVENTS.items():
        (health / f"events_{writer}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.6}\n')
    return folder


def test_every_kind_of_event_is_accounted_for(tmp_path: Path) -> None:
    found = load_health(made(tmp_path))
    assert found is not None
    assert {kind: (count, fate) for kind, count, fate in found.faults} == {
        "ended": (2, "1 started again, 1 not"),
        "failed": (1, "the run went on"),
        "hang": (1, "the run went on"),
        "nan": (2, "skip 2"),
        "restart": (1, ""),
        "slow_save": (2, "750 s in all"),
        "spike": (1, "warn 1"),
        "straggler": (1, "rank 1 in rollout"),
        "torn_checkpoint": (1, "set aside, not used"),
    }
    assert found.sentence == "40 of 40 steps, 1,234 trained tokens a second, started again 1 time."
    # By hand: rank 0 works 0.5 s of its own, rank 1 1.5 s, of steps of 2 s.
    assert [row[:5] for row in found.ranks] == [
        ("0", "finished", "40", "2", "50.0\u202f%"),
        ("1", "finished", "40", "2", "0.0\u202f%"),
    ]
    assert found.phases == ("rollout", "update") and found.ranks[1][5:] == ("1.5", "0.25")
    stopped = load_health(made(tmp_path / "stopped", state="failed"))
    assert stopped is not None
    fates = {kind: fate for kind, _, fate in stopped.faults}
    assert (fates["failed"], fates["hang"]) == ("the run stands since the last", "the run went on")


def test_the_page_has_the_section_and_a_training_run_alone_is_enough(tmp_path: Path) -> None:
    made(tmp_path / "train")
    config = ReportConfig(out=tmp_path / "report", train=tmp_path / "train")
    page = (run(config).path / "report.html").read_text()
    assert StrictPage(page).problems == []
    assert '<h2 id="health">Training health</h2>' in page and "1 started again, 1 not" in page
    assert "&lt;b&gt;cut&lt;/b&gt;" in page and "<b>cut</b>" not in page
    with (tmp_path / "train/health/events_rank_0.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "rewind", "time": 60.0}) + "\n")
    with pytest.raises(CodealignError, match="health_events_rank_0"):
        run(config)  # the page was made of other files


def test_a_run_that_ended_before_its_first_row_of_metrics_has_a_page_too(tmp_path: Path) -> None:
    made(tmp_path / "train")
    (tmp_path / "train/metrics.jsonl").unlink()
    page = run(ReportConfig(out=tmp_path / "report", train=tmp_path / "train")).path / "report.html"
    assert "Training health" in page.read_text()


def test_a_run_that_nobody_watched_has_no_section_and_broken_files_break_nothing(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert load_health(tmp_path / "plain") is None
    health = tmp_path / "torn/health"
    health.mkdir(parents=True)
    (health / "rank_0.json").write_text('{"rank": 0, "wor')
    (health / "rank_1.json").write_text('{"rank": true, "world": 1, "time": 1}')
    (health / "events_rank_0.jsonl").write_bytes(
        b'\xff\xfe\n[1]\n{"kind": 3, "time": 1}\n{"kind": "nan", "ti'
    )
    assert load_health(tmp_path / "torn") is None
    (health / "rank_2.json").write_text(
        '{"rank": 0, "world": 1, "time": 1e300, "phases": [1], "step": "<i>", "state": {"a": 1}}'
    )
    (health / "events_rank_1.jsonl").write_text(
        '{"kind": "slow_save", "time": 1e300, "seconds": "x"}\n{"kind": "hang", "time": NaN}\n'
        + "[" * 100_000
    )
    found = load_health(tmp_path / "torn")
    assert found is not None and found.ranks[0][2:] == ("–", "–", "–")
    assert found.faults == (("slow_save", 1, "0 s in all"),) and found.events[0][0] == "–"
