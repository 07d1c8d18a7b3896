"""Pools: read strictly, scored once, kept over a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.bon_pool import read_pool, score_pool
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(task: str = "a", gold: Any = 1.0, **scores: Any) -> dict[str, Any]:
    return {"task_id": task, "scores": scores or {"x": 1.0, "y": 2.0}, "gold": gold}


def test_rows_become_arrays_by_prompt(tmp_path: Path) -> None:
    rows = [row("a", 1, x=1, y=2), row("b", 0.5, y=4, x=3), row("a", True, x=5, y=6)]
    pool = read_pool(write(tmp_path / "pool.jsonl", rows))
    assert (pool.members, pool.tasks) == (("x", "y"), ("a", "b"))
    assert [s.tolist() for s in pool.scores] == [[[1, 2], [5, 6]], [[3, 4]]]
    assert [g.tolist() for g in pool.gold] == [[1, 1], [0.5]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"task_id": "a", "gold": 1}, r"jsonl:2: a row of a pool is .*this one has task_id, gold"),
        ({"task_id": "a", "scores": {}, "gold": 1}, r"jsonl:2: a row of a pool"),
        ({"scores": {"x": 1, "y": 2}, "gold": 1}, r"jsonl:2: a row of a pool"),
        (row(x=1.0), r"jsonl:2: member y is not in all rows"),
        (row(x=1.0, y=2.0, z=3.0), r"jsonl:2: member z is not in all rows"),
        (row(x=1.0, y=None), r"jsonl:2: member 'y' must be a finite number, got None"),
        (row(x=1.0, y="2"), r"jsonl:2: member 'y' must be a finite number, got '2'"),
        ('{"task_id": "a", "scores": {"x": NaN, "y": 1}, "gold": 1}', r"jsonl:2: member 'x'.* nan"),
        ('{"task_id": "a", "scores": {"x": 1, "y": 1e999}, "gold": 1}', r"jsonl:2: member 'y'.* inf"),
        (row(gold=None), r"jsonl:2: gold must be a finite number"),
        ("{", r"jsonl:2: not valid JSON"),
        ("[1]", r"jsonl:2: a JSON object"),
    ],
)
def test_a_broken_row_is_named_by_its_line(bad: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=message):
        read_pool(write(tmp_path / "pool.jsonl", [row(), bad]))


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="holds no samples"):
        read_pool(write(tmp_path / "pool.jsonl", []))


def test_gold_may_be_absent_where_it_is_not_needed(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.jsonl", [{"task_id": "a", "scores": {"x": 1.0}}] * 2)
    assert read_pool(path, gold=False).gold[0].tolist() == [0, 0]
    with pytest.raises(CodealignError, match="gold must be"):
        read_pool(path)


def test_members_are_scaled_by_name(tmp_path: Path) -> None:
    pool = read_pool(write(tmp_path / "p.jsonl", [row(x=1.0, y=10.0), row(x=3.0, y=30.0)]))
    other = read_pool(write(tmp_path / "q.jsonl", [row(y=0.0, x=0.0), row(y=10.0, x=1.0)]))
    half = 1 / 2**0.5
    scaled = pool.calibrated(other.scales()).scores[0]
    np.testing.assert_allclose(scaled, [[0.5 / half, 0.5 / half], [2.5 / half, 2.5 / half]])
    alone = read_pool(write(tmp_path / "r.jsonl", [row(x=1.0), row(x=2.0)]))
    with pytest.raises(CodealignError, match="no calibration for y; there is: x"):
        pool.calibrated(alone.scales())


SAMPLES = [
    {"task_id": task, "prompt": "p" + task, "completion": text, "gold": gold, "bonus": gold / 2}
    for task, text, gold in (("a", "x", 1.0), ("b", "xyz", 0.0), ("a", "xy", 0.5))
]


def length(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def test_a_pool_is_scored_prompt_by_prompt_with_all_columns(tmp_path: Path) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def bonus(prompts: list[str], completions: list[str], bonus: list[float], **_: Any) -> list[float]:
        seen.append((prompts, completions))
        return bonus

    run = RunDir.open(tmp_path / "run", "score", {"members": ["length", "bonus"]})
    pool = read_pool(score_pool(SAMPLES, {"length": length, "bonus": bonus}, run))
    assert seen == [(["pa", "pa"], ["x", "xy"]), (["pb"], ["xyz"])]
    assert pool.scores[0][:, pool.members.index("length")].tolist() == [1.0, 2.0]
    assert pool.scores[0][:, pool.members.index("bonus")].tolist() == [0.5, 0.25]
    assert pool.gold[0].tolist() == [1.0, 0.5]


def test_a_pool_is_scored_once_and_a_killed_job_goes_on(tmp_path: Path) -> None:
    calls: list[str] = []

    def stops(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        calls.append(prompts[0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [0.0] * len(completions)

    def score() -> Path:
        run = RunDir.open(tmp_path / "run", "score", {})
        return score_pool(SAMPLES, {"m": stops}, run)

    with pytest.raises(KeyboardInterrupt):
        score()
    path = score()
    assert calls == ["pa", "pb", "pb"]
    assert score() == path and len(calls) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1.0], "member 'm' gave 1 scores for 2 samples"),
        ([1.0, None], "member 'm', sample 1 of task 'a': its score must be a finite number, got None"),
        ([float("nan"), 1.0], "sample 0 of task 'a'"),
    ],
)
def test_a_member_that_misses_a_sample_is_an_error(given: list[Any], message: str, tmp_path: Path) -> None:
    run = RunDir.open(tmp_path / "run", "score", {})
    with pytest.raises(CodealignError, match=message):
        score_pool(SAMPLES, {"m": lambda **_: given}, run)


def test_samples_without_their_columns_are_refused(tmp_path: Path) -> None:
    run = RunDir.open(tmp_path / "run", "score", {})
    with pytest.raises(CodealignError, match="sample 0 lacks prompt; it has: task_id, completion"):
        score_pool([{"task_id": "a", "completion": "x"}], {"m": length}, run)
