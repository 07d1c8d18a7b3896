"""A trainer of transformers under watch: spoiled losses under every choice, torn checkpoints, going back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from alignment.health import guard as guards
from alignment.health.attach import resume_point, seal_checkpoint, watched
from alignment.health.beats import read_beats
from alignment.health.events import FOLDER, read_events
from alignment.health.guard import Rewind
from alignment.health.options import HealthOptions
from alignment.health.restart import REWIND_STATUS
from codegen_eval.errors import CodealignError


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([1.0]))

    def forward(self, x: Any, input_ids: Any = None) -> Any:
        return {"loss": (self.w * x - 2.0).pow(2).mean()}


class Spoiled(Trainer):  # type: ignore[misc]
    """Spoils the loss of some steps; keeps the weight after every step."""

    spoil: dict[int, float]
    seen: list[int]

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        step = self.state.global_step + 1
        self.seen.append(step)
        return super().compute_loss(model, inputs, *rest, **more) * self.spoil.get(step, 1.0)


class Notes(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.weights: dict[int, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.weights[state.global_step] = float(kwargs["model"].w.detach())

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        seal_checkpoint(args, state)


def train(
    out: Path,
    steps: int = 8,
    *,
    spoil: dict[int, float] | None = None,
    accumulate: int = 1,
    keep: int | None = None,
    **options: Any,
) -> tuple[Notes, Spoiled]:
    arguments = TrainingArguments(
        str(out),
        max_steps=steps,
        save_steps=2,
        save_total_limit=keep,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=accumulate,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        logging_steps=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        seed=0,
    )
    rows = [{"x": 1.0 + i / 100, "input_ids": [1, 2, 3]} for i in range(64)]
    trainer = Spoiled(Line(), arguments, train_dataset=rows)
    trainer.spoil, trainer.seen = spoil or {}, []
    notes = Notes()
    trainer.add_callback(notes)
    checkpoint = resume_point(out)
    with watched(trainer, out, HealthOptions(**options)):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return notes, trainer


def kinds(out: Path) -> list[tuple[str, int | None]]:
    return [(event.kind, event.facts.get("step")) for event in read_events(out / FOLDER)]


NAN = float("nan")


def test_a_healthy_run_learns_the_same_bit_for_bit_as_without_watch(tmp_path: Path) -> None:
    watched_notes, trainer = train(tmp_path / "a")
    notes = Notes()
    trainer = Spoiled(Line(), trainer.args, train_dataset=trainer.train_dataset)
    trainer.spoil, trainer.seen = {}, []
    trainer.add_callback(notes)
    trainer.args.save_strategy = "no"
    trainer.train()
    assert notes.weights == watched_notes.weights and len(notes.weights) == 8
    assert kinds(tmp_path / "a") == []
    beat = read_beats(tmp_path / "a" / FOLDER)[0]
    assert beat.state == "finished" and beat.step == 8 and beat.loss is not None
    assert beat.tokens_per_second is not None and {"forward", "backward", "optimizer"} <= set(beat.phases)
    assert trainer.training_step.__self__ is trainer, "the trainer has its own methods back"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skip_leaves_the_weights_as_they_were_and_training_goes_on(tmp_path: Path, accumulate: int) -> None:
    notes, _ = train(tmp_path, spoil={3: NAN}, accumulate=accumulate, on_nan="skip")
    assert notes.weights[3] == notes.weights[2] and notes.weights[4] != notes.weights[3]
    assert all(weight == weight for weight in notes.weights.values())
    assert set(kinds(tmp_path)) == {("nan", 3)}


def test_warn_trains_on_it_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match="not finite 5 times in a row"):
        train(tmp_path, spoil={3: NAN}, on_nan="warn")
    assert kinds(tmp_path)[0] == ("nan", 3), "and then every loss is broken"


def test_stop_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CodealignError, match=r"step 3: the loss is not finite; stopped as --on_nan says"):
        train(tmp_path, spoil={3: float("inf")}, on_nan="stop")
    assert read_beats(tmp_path / FOLDER)[0].state == "failed"
    notes, _ = train(tmp_path, on_nan="skip")
    assert sorted(notes.weights) == [3, 4, 5, 6, 7, 8]


def test_rewind_goes_back_to_the_checkpoint_and_passes_the_batches_over(tmp_path: Path) -> None:
    with pytest.raises(Rewind, match=r"back to step 4; the batches up to that of step 6") as caught:
        train(tmp_path, spoil={6: NAN}, on_nan="rewind")
    assert caught.value.status == REWIND_STATUS
    notes, trainer = train(tmp_path, spoil={6: NAN}, on_nan="rewind")
    assert trainer.seen == [7, 8], "steps 5 and 6 are passed over, the poisoned batch is never seen"
    assert notes.weights[5] == notes.weights[6] != notes.weights[7]
    assert kinds(tmp_path) == [("nan", 6), ("rewind", 6), ("failed", 5)]


def test_a_spike_can_be_skipped_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "LEAST", 5)
    notes, _ = train(tmp_path, steps=10, spoil={8: 1000.0}, on_spike="skip")
    assert notes.weights[8] == notes.weights[7] != notes.weights[9]
    (event,) = read_events(tmp_path / FOLDER)
    assert (event.kind, event.facts["step"], event.facts["action"]) == ("spike", 8, "skip")
    assert event.facts["threshold"] < float(event.facts["loss"])


def test_a_torn_checkpoint_is_said_and_the_run_goes_on_from_the_one_before_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = train(tmp_path / "whole")
    train(tmp_path / "torn", steps=6)
    victim = tmp_path / "torn" / "checkpoint-6"
    largest = max(victim.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    capsys.readouterr()
    notes, _ = train(tmp_path / "torn")
    assert sorted(notes.weights) == [5, 6, 7, 8]
    assert {step: whole.weights[step] for step in notes.weights} == notes.weights
    assert f"checkpoint-6 is torn ({largest.name}: " in capsys.readouterr().err
    assert ("torn_checkpoint", None) in kinds(tmp_path / "torn")
    manifest = json.loads((tmp_path / "torn" / "checkpoint-8" / "complete").read_text())
    assert "optimizer.pt" in manifest["files"]


def test_one_checkpoint_is_always_whole_even_where_only_one_is_to_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, keep=1)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-6", "checkpoint-8"}
    assert "2 checkpoints are kept" in capsys.readouterr().err


def test_a_slow_disk_is_told(tmp_path: Path) -> None:
    train(tmp_path, steps=2, slow_save_seconds=0.0)
    assert kinds(tmp_path) == [("slow_save", 2)]
