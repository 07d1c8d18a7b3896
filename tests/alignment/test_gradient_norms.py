"""Norms of every step before clipping, once each, through a kill; a DPO run that follows the schedule."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.gradient_norms import GradientNorms, norms
from alignment.schedules import NORMS, factor, load_schedule
from codegen_eval.errors import CodealignError
from tests.alignment.preference import small
from tests.conftest import REPO


def test_norms_are_those_of_all_gradients_as_one_vector() -> None:
    parts = [torch.tensor([[3.0, -4.0]]), None, torch.tensor([-12.0])]
    assert norms(parts) == (19.0, 13.0)
    assert norms([]) == (0.0, 0.0)
    assert norms([torch.full((1000,), 1e30)])[1] == pytest.approx(1000**0.5 * 1e30), "no overflow of float32"


class Accelerator:
    def clip_grad_norm_(self, parameters: Any, most: float) -> Any:
        return torch.nn.utils.clip_grad_norm_(parameters, most)

    def unscale_gradients(self) -> None:
        pass


def trainer(**changes: Any) -> Any:
    model = torch.nn.Linear(2, 1, bias=False)
    fields = {
        "is_deepspeed_enabled": False,
        "is_fsdp_enabled": False,
        "model": model,
        "accelerator": Accelerator(),
    }
    return SimpleNamespace(**{**fields, **changes})


def test_the_norm_is_that_before_clipping_and_of_whoever_does_not_clip(tmp_path: Path) -> None:
    stub = trainer()
    callback = GradientNorms(stub, tmp_path)
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    for step, clip in enumerate((True, False)):
        stub.model.weight.grad = torch.tensor([[3.0, 4.0]])
        if clip:
            stub.accelerator.clip_grad_norm_(stub.model.parameters(), 1.0)
            assert float(stub.model.weight.grad.norm()) == pytest.approx(1.0)
        state.global_step = step
        callback.on_pre_optimizer_step(None, state, None)
    rows = [json.loads(line) for line in (tmp_path / NORMS).read_text().splitlines()]
    assert rows == [{"step": 1, "l1": 7.0, "l2": 5.0}, {"step": 2, "l1": 7.0, "l2": 5.0}]


def test_going_on_from_a_checkpoint_drops_what_came_after_it(tmp_path: Path) -> None:
    rows = [{"step": i, "l1": 1.0, "l2": 1.0} for i in (1, 2, 3)]
    (tmp_path / NORMS).write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "l1"')
    callback = GradientNorms(trainer(), tmp_path)
    callback.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, global_step=2), None)
    assert [json.loads(line)["step"] for line in (tmp_path / NORMS).read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("what", ["is_deepspeed_enabled", "is_fsdp_enabled"])
def test_spread_gradients_are_refused(tmp_path: Path, what: str) -> None:
    with pytest.raises(CodealignError, match="--accelerate single or ddp"):
        GradientNorms(trainer(**{what: True}), tmp_path)


def test_a_dpo_run_logs_its_norms_and_another_follows_the_schedule_made_of_them(tmp_path: Path) -> None:
    from alignment import dpo
    from alignment.refine_command import refine

    small.save_model(tmp_path / "model")
    pair = {
        "prompt": 'def f(xs):\n    """Return the largest."""\n',
        "chosen": "    return max(xs)\n",
        "rejected": "    return min(xs) + 2\n",
    }
    rows = [{**pair, "chosen": f"    x = {i}\n    return max(xs)\n"} for i in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = [
        "--config",
        str(REPO / "recipes/tiny-coder/dpo.yaml"),
        "--model_name_or_path",
        str(tmp_path / "model"),
    ]
    common += ["--dataset_name", str(tmp_path / "pairs.jsonl"), "--per_device_train_batch_size", "4"]
    common += ["--max_steps", "6", "--save_steps", "100", "--logging_steps", "1", "--max_grad_norm", "0.01"]
    base = dpo.run([*common, "--output_dir", str(tmp_path / "base"), "--log_gradient_norms", "true"])
    logged = [json.loads(line) for line in (base.path / NORMS).read_text().splitlines()]
    metrics = [json.loads(line) for line in (base.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == [1, 2, 3, 4, 5, 6]
    # transformers' own norm is that before clipping, too.
    assert [row["l2"] for row in logged] == pytest.approx(
        [row["grad_norm"] for row in metrics if "grad_norm" in row], rel=1e-4
    )
    assert all(row["l1"] > row["l2"] > 0.01 for row in logged)
    curve = load_schedule(refine(base.path, tmp_path / "schedule.json"))
    followed = dpo.run(
        [
            *common,
            "--output_dir",
            str(tmp_path / "next"),
            "--lr_schedule_file",
            str(tmp_path / "schedule.json"),
        ]
    )
    metrics = [json.loads(line) for line in (followed.path / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in metrics if "learning_rate" in row]
    assert rates == pytest.approx([2e-4 * factor(curve, t, 6) for t in range(6)], rel=1e-5)
    (tmp_path / "schedule.json").write_text('{"format": "codealign-schedule-1", "schedule": [0.5, 0.1]}')
    with pytest.raises(CodealignError, match="content of lr_schedule_file"):
        dpo.run(
            [
                *common,
                "--output_dir",
                str(tmp_path / "next"),
                "--lr_schedule_file",
                str(tmp_path / "schedule.json"),
            ]
        )
