"""`codealign score`: from samples to the file that off-policy training reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.offpolicy import score_command
from alignment.offpolicy.data import load_candidates
from alignment.offpolicy.score_command import ScoreConfig, run
from alignment.rewards.registry import REWARDS
from codegen_eval.errors import CodealignError
from tests.alignment.rewards.problems import DOUBLE, LAST

CALLS: list[int] = []


@REWARDS.register("x_count")
def x_count(factor: float = 1.0, benchmark: str | None = None) -> Any:
    async def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float | None]:
        assert benchmark == "two" and len(columns["task_id"]) == len(completions)
        CALLS.append(len(completions))
        return [None if "lost" in text else factor * text.count("x") for text in completions]

    return reward


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_command, "load", lambda *_: [DOUBLE, LAST])
    CALLS.clear()


def samples(folder: Path, rows: list[dict[str, Any]] | None = None) -> Path:
    rows = rows or [
        {"task_id": "t/last", "completion": "    return xs\n", "sample": 0},
        {"task_id": "t/double", "completion": "    lost\n", "sample": 1},
        {"task_id": "t/double", "completion": "    return x * x\n", "sample": 0},
    ]
    path = folder / "programs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(folder: Path, **changes: Any) -> ScoreConfig:
    given = {"samples": folder / "programs.jsonl", "out": folder / "out", "benchmark": "two"}
    return ScoreConfig(**{**given, "rewards": '[{"name": "x_count", "factor": 2}]', **changes})


def test_samples_are_scored_by_task_and_a_missing_reward_stays_null(tmp_path: Path) -> None:
    samples(tmp_path)
    path = run(config(tmp_path)).path
    rows = [json.loads(line) for line in (path / "scored.jsonl").read_text().splitlines()]
    assert [row["rewards"] for row in rows] == [[4.0, None], [2.0]]
    assert rows[0]["prompt"] == DOUBLE.prompt and rows[0]["completions"][1] == "    lost\n"
    assert json.loads((path / "finished.json").read_text()) == {"answers": 3, "tasks": 2, "without_reward": 1}
    found, counts = load_candidates(str(path))
    assert [entry.rewards for entry in found] == [(4.0,), (2.0,)] and counts["no_reward"] == 1


def test_a_run_that_was_stopped_goes_on_and_a_finished_one_asks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples(tmp_path)
    monkeypatch.setattr(score_command, "TASKS_PER_PART", 1)
    real, asked = score_command._scored, []

    def once(*arguments: Any) -> Any:
        if asked:
            raise KeyboardInterrupt
        asked.append(1)
        return real(*arguments)

    monkeypatch.setattr(score_command, "_scored", once)
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path))
    monkeypatch.setattr(score_command, "_scored", real)
    assert run(config(tmp_path)).finished and CALLS == [2, 1]
    run(config(tmp_path))
    assert CALLS == [2, 1]


def test_an_evaluation_gives_rewards_without_running_anything(tmp_path: Path) -> None:
    samples(tmp_path)
    evaluation = tmp_path / "eval"
    evaluation.mkdir()
    results = [
        {"task_id": "t/double", "sample": 0, "passed": True},
        {"task_id": "t/double", "sample": 1, "passed": False},
    ]
    (evaluation / "sample_results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in results))
    with pytest.raises(CodealignError, match="the evaluation has no sample 0 of task 't/last'"):
        run(config(tmp_path, evaluation=evaluation))
    samples(tmp_path, [row | {"completion": "    return x\n"} for row in results])
    run_dir = run(config(tmp_path, evaluation=evaluation, out=tmp_path / "other"))
    row = json.loads((run_dir.path / "scored.jsonl").read_text())
    assert row["rewards"] == [1.0, 0.0] and not CALLS


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    samples(tmp_path, [{"task_id": "t/dubble", "completion": "x"}])
    with pytest.raises(CodealignError, match="did you mean 't/double'"):
        run(config(tmp_path))
    samples(tmp_path, [{"task_id": "t/double", "solution": "x"}])
    with pytest.raises(CodealignError, match="has no completion, only a whole solution"):
        run(config(tmp_path))
    samples(tmp_path)
    with pytest.raises(CodealignError, match="did you mean 'factor'"):
        run(config(tmp_path, rewards='[{"name": "x_count", "facto": 2}]', out=tmp_path / "b"))
    with pytest.raises(ValueError, match="not valid JSON"):
        config(tmp_path, rewards="[")
