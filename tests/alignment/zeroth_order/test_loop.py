"""A run killed at any step, or with a torn snapshot, ends with the weights of one that was left alone."""

from __future__ import annotations

import json
import shutil
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.health import guard
from alignment.health.beats import read_beats
from alignment.health.events import FOLDER, read_events
from alignment.health.guard import Rewind
from alignment.health.loops import watching
from alignment.health.options import HealthOptions
from alignment.ranks import Ranks
from alignment.zeroth_order.loop import Plan, batch_rows, means, train
from alignment.zeroth_order.steplog import Step, read
from alignment.zeroth_order.trainer import PATIENCE, Settings, ZerothOrder, replay_log
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir
from tests.alignment.zeroth_order.small import IDS, NEXT, Small, equal, state


class Killed(Exception):
    pass


class RowLoss:
    """The loss of single tokens; stops the run after so many calls."""

    def __init__(self, model: Small, calls: int | None = None) -> None:
        self.model = model
        self.left = calls
        self.seen: list[list[int]] = []

    def __len__(self) -> int:
        return len(IDS)

    def __call__(self, rows: Sequence[int]) -> list[float | None]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed
        self.seen.append(list(rows))
        with torch.no_grad():
            logits = self.model(IDS[list(rows)])
            values = torch.nn.functional.cross_entropy(logits, NEXT[list(rows)], reduction="none")
        return [float(value) for value in values]


SETTINGS = Settings(directions=2, sparsity=0.5, mask_every=2)
PLAN = Plan(
    steps=10, rate=lambda step: 0.05 / (step + 1), batch=2, micro_batches=2, log_every=3, save_every=4
)


def go(folder: Path, calls: int | None = None, plan: Plan = PLAN, rows: str = "r") -> tuple[Small, RowLoss]:
    model = Small()
    objective = RowLoss(model, calls)
    directory = RunDir.open(folder, "mezo", {})
    try:
        train(directory, ZerothOrder(model, SETTINGS, seed=1), objective, plan, rows)
    finally:
        directory.close()
    return model, objective


def rows_of(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("step", "loss", "factor", "skipped")} for row in lines]


def test_a_run_killed_at_any_evaluation_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, objective = go(tmp_path / "whole")
    # 10 steps x 2 directions x 2 sides x 2 micro-batches.
    assert len(objective.seen) == 80 and [row["step"] for row in rows_of(tmp_path / "whole")] == [3, 6, 9, 10]
    for calls in (0, 7, 8, 31, 33, 50, 79):
        folder = tmp_path / f"killed-{calls}"
        with pytest.raises(Killed):
            go(folder, calls)
        again, resumed = go(folder)
        assert equal(state(whole), state(again)), calls
        assert rows_of(folder) == rows_of(tmp_path / "whole")
        assert len(resumed.seen) == 80 - calls // 8 * 8, "whole steps are not evaluated again"
        assert (folder / "steps.jsonl").read_bytes() == (tmp_path / "whole/steps.jsonl").read_bytes()


def test_a_snapshot_spares_the_replay_and_a_torn_one_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "a", 54)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").glob("checkpoint-*")] == ["checkpoint-4"]
    capsys.readouterr()
    again, _ = go(tmp_path / "a")
    assert "going on after 6 steps: a snapshot and 2 replayed" in capsys.readouterr().err
    snapshot = tmp_path / "b/checkpoint-4/weights.safetensors"
    content = snapshot.read_bytes()
    snapshot.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # one bit, which no format would see
    torn, _ = go(tmp_path / "b")
    said = capsys.readouterr().err
    assert "checkpoint-4 is torn (weights.safetensors: its content" in said and "none before it" in said
    assert "after 6 steps: 6 replayed" in said
    assert equal(state(whole), state(again)) and equal(state(whole), state(torn))


def test_a_snapshot_ahead_of_the_log_is_not_taken(tmp_path: Path) -> None:
    """A power cut may lose lines of the log that the snapshot has seen."""
    whole, _ = go(tmp_path / "whole")
    with pytest.raises(Killed):
        go(tmp_path / "a", 54)
    log = tmp_path / "a/steps.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    again, objective = go(tmp_path / "a")
    assert equal(state(whole), state(again)) and len(objective.seen) == 64


def test_other_rows_in_the_same_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(tmp_path / "a", 20)
    with pytest.raises(CodealignError, match="rows: 'r', now 'other'"):
        go(tmp_path / "a", rows="other")


def test_both_sides_of_a_direction_see_the_same_batch_and_passes_see_every_row() -> None:
    seen = [row for step in range(9) for row in batch_rows(6, step, 4, 0)]
    assert Counter(seen) == dict.fromkeys(range(6), 6)
    assert all(sorted(seen[i : i + 6]) == list(range(6)) for i in range(0, 36, 6))
    assert seen[:6] != seen[6:12] and batch_rows(6, 0, 4, 1) != batch_rows(6, 0, 4, 0)
    assert batch_rows(2, 1, 5, 0) == batch_rows(2, 1, 5, 0), "a batch may be longer than the data"


def test_both_evaluations_get_the_same_rows(tmp_path: Path) -> None:
    _, objective = go(tmp_path / "run")
    for begin in range(0, 80, 8):
        step = objective.seen[begin : begin + 8]
        assert step[0:2] == step[2:4] == step[4:6] == step[6:8]


def test_means_count_what_is_there() -> None:
    steps = [Step(0.1, 2.0, ((1, -4.0), (2, None))), Step(0.2, float("nan"), ((3, 2.0), (4, 0.0)))]
    assert means(steps, reward=False) == {"loss": 2.0, "learning_rate": 0.2, "factor": 2.0, "skipped": 1.0}
    assert means(steps, reward=True)["reward"] == -2.0


def test_two_processes_end_with_the_weights_of_one_that_saw_the_whole_batch(tmp_path: Path) -> None:
    """Threads stand for processes; what they exchange are the values of their rows, as all_gather would."""
    meet = threading.Barrier(2, timeout=60)
    table: dict[int, Any] = {}

    class Threads(Ranks):
        def gathered(self, value: Any) -> list[Any]:
            table[self.rank] = value
            meet.wait()
            found = [table[0], table[1]]
            meet.wait()
            return found

        def together(self) -> None:
            meet.wait()

    whole, alone = go(tmp_path / "whole", plan=replace(PLAN, batch=4, micro_batches=1))
    directory = RunDir.open(tmp_path / "two", "mezo", {})
    models = [Small(), Small()]
    seen: list[RowLoss] = [RowLoss(model) for model in models]

    def process(rank: int) -> None:
        plan = replace(PLAN, batch=2, micro_batches=1)
        trainer = ZerothOrder(models[rank], SETTINGS, seed=1)
        train(directory, trainer, seen[rank], plan, "r", ranks=Threads(rank, 2))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(process, (0, 1)))
    assert equal(state(models[0]), state(models[1])) and equal(state(models[0]), state(whole))
    assert [[*one, *other] for one, other in zip(seen[0].seen, seen[1].seen, strict=True)] == alone.seen
    assert len((tmp_path / "two/steps.jsonl").read_text().splitlines()) == 11, "one of them writes"


@pytest.mark.parametrize(("reward", "warned"), [(False, 1), (True, 0)])
def test_a_loss_that_grows_is_told_once_in_plain_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reward: bool, warned: int
) -> None:
    class Growing(RowLoss):
        def __call__(self, rows: Sequence[int]) -> list[float | None]:
            self.seen.append(list(rows))
            return [float(len(self.seen))]

    model = Small()
    plan = replace(PLAN, reward=reward, log_every=1)
    train(RunDir.open(tmp_path, "mezo", {}), ZerothOrder(model, SETTINGS), Growing(model), plan, "r")
    assert capsys.readouterr().err.count("the steps are too long. Lower learning_rate") == warned


class Spoiled(RowLoss):
    """Values of one step are `value` times what they should be."""

    bad, value = 6, float("nan")

    def __call__(self, rows: Sequence[int]) -> list[float | None]:
        found = super().__call__(rows)
        if (len(self.seen) - 1) // 8 + 1 != self.bad:
            return found
        return [None if loss is None else self.value * loss for loss in found]


def watched(folder: Path, bad: int = 6, value: float = float("nan"), **options: Any) -> tuple[Small, Spoiled]:
    model = Small()
    objective = Spoiled(model)
    objective.bad, objective.value = bad, value
    directory = RunDir.open(folder, "mezo", {})
    try:
        with watching(folder, HealthOptions(**options), patience=PATIENCE + 1) as watch:
            train(directory, ZerothOrder(model, SETTINGS, seed=1), objective, PLAN, "r", watch)
    finally:
        directory.close()
    return model, objective


def moved(folder: Path) -> list[int]:
    """Numbers of the steps whose factors are known."""
    _, steps = read(folder / "steps.jsonl")
    return [number for number, step in enumerate(steps, 1) if step.skipped == 0]


def test_a_healthy_run_goes_the_same_way_under_watch(tmp_path: Path) -> None:
    whole, _ = go(tmp_path / "whole")
    again, _ = watched(tmp_path / "watched", bad=99, checkpoint_hashes=False)
    assert equal(state(whole), state(again))
    (beat,) = read_beats(tmp_path / "watched" / FOLDER)
    assert (beat.state, beat.step, beat.max_steps) == ("finished", 10, 10)
    assert {"forward", "update"} <= set(beat.phases) and beat.loss is not None
    manifest = json.loads((tmp_path / "watched/checkpoint-8/complete").read_text())
    assert set(manifest["files"]["weights.safetensors"]) == {"size"}


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "nan"), (1e4, "spike")])
def test_skip_records_a_step_without_factors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, kind: str
) -> None:
    monkeypatch.setattr(guard, "LEAST", 4)
    model, _ = watched(tmp_path, value=value, on_nan="skip", on_spike="skip")
    assert moved(tmp_path) == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    (event,) = read_events(tmp_path / FOLDER)
    assert (event.kind, event.facts["step"]) == (kind, 6)
    replayed = Small()
    replay_log(replayed, tmp_path / "steps.jsonl")
    assert equal(state(model), state(replayed)), "the log is still the checkpoint"


def test_rewind_goes_back_to_the_snapshot_and_passes_the_steps_over(tmp_path: Path) -> None:
    with pytest.raises(Rewind, match="back to step 4; the batches up to that of step 6"):
        watched(tmp_path, on_nan="rewind")
    assert moved(tmp_path) == [1, 2, 3, 4] and [row["step"] for row in rows_of(tmp_path)] == [3]
    model, objective = watched(tmp_path, bad=99, on_nan="rewind")
    assert moved(tmp_path) == [1, 2, 3, 4, 7, 8, 9, 10]
    assert len(objective.seen) == 4 * 8, "steps 5 and 6 are not looked at"
    assert [row["step"] for row in rows_of(tmp_path)] == [3, 6, 9, 10]
    replayed = Small()
    replay_log(replayed, tmp_path / "steps.jsonl")
    assert equal(state(model), state(replayed))


def test_stop_ends_the_run_and_leaves_the_weights_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="step 6: the loss is not finite; stopped as --on_nan says"):
        watched(tmp_path, on_nan="stop")
    assert moved(tmp_path) == [1, 2, 3, 4, 5]
    again, _ = watched(tmp_path, bad=99)
    assert equal(state(go(tmp_path / "whole")[0]), state(again))
