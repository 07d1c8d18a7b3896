"""On-policy training under watch: phases, hangs, spoiled losses under every choice, going back."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from alignment.health import hang as hangs
from alignment.health.attach import resume_point
from alignment.health.beats import read_beats
from alignment.health.events import FOLDER, read_events
from alignment.health.guard import Rewind
from alignment.health.loops import watching
from alignment.health.options import HealthOptions
from alignment.health.restart import HANG_STATUS, REWIND_STATUS
from codegen_eval.errors import CodealignError
from tests.alignment.onpolicy.small import trainer
from tests.alignment.onpolicy.test_trainer import Decoded, count_b

PROMPTS = [(1,), (2,), (1, 2), (2, 1)]


class Weights(TrainerCallback):  # type: ignore[misc]
    """All trained weights after each step, and which steps had a rollout."""

    def __init__(self) -> None:
        self.after: dict[int, torch.Tensor] = {}
        self.drawn: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        flat = [p.detach().flatten() for p in kwargs["model"].parameters()]
        self.after[state.global_step] = torch.cat(flat).clone()
        if kwargs["rollout"] is not None:
            self.drawn.append(state.global_step)


def made(folder: Path, reward: Any = count_b, **loop: Any) -> tuple[Any, Weights]:
    seen = Weights()
    settings = {"max_steps": 6, "save_steps": 2, **loop}
    t = trainer(
        "ppo", reward, rows=4, passes=1, prompts=PROMPTS, tokenizer=Decoded(), num_ppo_epochs=2,
        folder=folder, callbacks=[seen], loop=settings,
    )  # fmt: skip
    return t, seen


def spoil(t: Any, step: int, value: float) -> None:
    """The first update of a step has a loss that is `value` times what it should be."""
    original = t.updater.part_loss
    left = [1]

    def part_loss(*rest: Any, **more: Any) -> Any:
        policy, values, moved = original(*rest, **more)
        if t.state.global_step + 1 == step and left and left.pop():
            policy = policy * value
        return policy, values, moved

    t.updater.part_loss = part_loss


def train(folder: Path, *, bad: int | None = None, value: float = math.nan, **options: Any) -> Weights:
    t, seen = made(folder)
    if bad is not None:
        spoil(t, bad, value)
    resume = resume_point(folder)
    with watching(folder, HealthOptions(**options)) as watch:
        t.train(resume, watch)
    return seen


def kinds(folder: Path) -> list[tuple[str, int | None]]:
    return [(event.kind, event.facts.get("step")) for event in read_events(folder / FOLDER)]


def test_a_healthy_run_learns_the_same_as_without_watch_and_says_what_it_does(tmp_path: Path) -> None:
    watched = train(tmp_path / "watched", checkpoint_hashes=False, slow_save_seconds=0.0)
    t, alone = made(tmp_path / "alone")
    t.train()
    assert all(torch.equal(watched.after[step], alone.after[step]) for step in range(1, 7))
    (beat,) = read_beats(tmp_path / "watched" / FOLDER)
    assert (beat.state, beat.step, beat.max_steps) == ("finished", 6, 6)
    assert {"rollout", "reward", "prepare", "forward", "update"} <= set(beat.phases)
    assert beat.loss is not None and beat.tokens_per_second is not None and beat.tokens_per_second > 0
    assert kinds(tmp_path / "watched") == [("slow_save", 2), ("slow_save", 4), ("slow_save", 6)]
    for name, keys in (("watched", {"size"}), ("alone", {"size", "sha256"})):
        manifest = json.loads((tmp_path / name / "checkpoint-6/complete").read_text())
        assert {frozenset(entry) for entry in manifest["files"].values()} == {frozenset(keys)}


def test_skip_leaves_out_the_spoiled_update_alone(tmp_path: Path) -> None:
    whole, seen = train(tmp_path / "whole"), train(tmp_path / "spoiled", bad=3, on_nan="skip")
    assert torch.equal(whole.after[2], seen.after[2])
    moved = [float((seen.after[step] - seen.after[step - 1]).abs().max()) for step in (3, 4)]
    assert moved[0] > 0, "the second epoch of the step is trained on"
    assert not torch.equal(whole.after[3], seen.after[3]) and torch.isfinite(seen.after[6]).all()
    assert kinds(tmp_path / "spoiled") == [("nan", 3)]


def test_warn_trains_on_it_and_stop_ends_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="not finite 5 times in a row"):
        train(tmp_path / "warn", bad=3, on_nan="warn")
    assert kinds(tmp_path / "warn")[0] == ("nan", 3), "and then every loss is broken"
    with pytest.raises(CodealignError, match="step 3: the loss is not finite; stopped as --on_nan says"):
        train(tmp_path / "stop", bad=3, on_nan="stop")
    assert kinds(tmp_path / "stop") == [("nan", 3), ("failed", 2)]
    assert sorted(train(tmp_path / "stop").after) == [3, 4, 5, 6], "from the whole checkpoint before"


def test_rewind_goes_back_and_passes_the_steps_over(tmp_path: Path) -> None:
    with pytest.raises(Rewind, match="back to step 2; the batches up to that of step 4") as caught:
        train(tmp_path, bad=4, on_nan="rewind")
    assert (caught.value.status, caught.value.checkpoint) == (REWIND_STATUS, 2)
    seen = train(tmp_path, bad=4, on_nan="rewind")
    assert seen.drawn == [5, 6], "nothing is drawn for steps 3 and 4"
    assert torch.equal(seen.after[3], seen.after[4]) and not torch.equal(seen.after[4], seen.after[5])
    assert kinds(tmp_path) == [("nan", 4), ("rewind", 4), ("failed", 3)]


def test_a_reward_that_never_returns_ends_the_run_with_the_stacks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forever, status = threading.Event(), []

    def end(code: int) -> None:  # stands for os._exit: lets the run end, so that the test can
        status.append(code)
        forever.set()

    def reward_that_never_returns(completions: list[str], **columns: Any) -> list[float]:
        if columns["trainer_state"].global_step == 2:
            forever.wait(60)
        return count_b(completions)

    t, _ = made(tmp_path, reward_that_never_returns)
    options = HealthOptions(hang_timeout=0.5, heartbeat_seconds=0.2)
    with watching(tmp_path, options) as watch:
        watch.monitor.end = end
        t.train(None, watch)
    said, report = capfd.readouterr().err, (tmp_path / FOLDER / hangs.REPORT).read_text()
    assert status[0] == HANG_STATUS and report in said
    assert "step 2, reward" in report and "in reward_that_never_returns" in report
    assert ("hang", 2) in kinds(tmp_path)


def test_a_reward_that_breaks_its_protocol_is_an_event_of_the_phase_reward(tmp_path: Path) -> None:
    t, _ = made(tmp_path, lambda completions, **columns: ["much"] * len(completions))
    with pytest.raises(CodealignError), watching(tmp_path) as watch:
        t.train(None, watch)
    (event,) = read_events(tmp_path / FOLDER)
    assert (event.kind, event.facts["phase"]) == ("failed", "reward")
