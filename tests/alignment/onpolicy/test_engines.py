"""What is refused of DeepSpeed before the first step, and checkpoints of another division."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.engines import Plain, Zero, check_zero
from alignment.onpolicy import checkpoint
from alignment.onpolicy.updating import Updater
from codegen_eval.errors import CodealignError
from tests.alignment.onpolicy.small import model, trainer
from tests.alignment.onpolicy.test_two_processes import Letters


def nothing(completions: list[str], **columns: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"zero_optimization": {"stage": 0}}, "--accelerate ddp"),
        ({}, "--accelerate ddp"),
        ({"zero_optimization": {"stage": 3}, "fp16": {"enabled": True}}, "bf16 true"),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}}, "--accelerate zero3"),
        ({"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupLR"}}, "section scheduler"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}}, "offload_param"),
    ],
)
def test_what_deepspeed_would_do_and_the_trainer_cannot_is_refused(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(CodealignError, match=said):
        check_zero(settings, "a trainer")


def test_zero_stages_without_offloading_are_taken() -> None:
    for stage in (1, 2, 3):
        check_zero(
            {
                "zero_optimization": {
                    "stage": stage,
                    "offload_optimizer": {"device": "none"},
                    "offload_param": None,
                },
                "fp16": {"enabled": "auto"},
            },
            "a trainer",
        )


def test_weights_in_half_precision_are_refused_under_zero() -> None:
    with pytest.raises(CodealignError, match=r"these: bfloat16.*dtype float32"):
        Zero(model().bfloat16(), None, None, rows=1)


def test_variances_of_passes_are_refused_where_gradients_are_divided() -> None:
    t = trainer("reinforce", nothing, passes=2, gradient_variance_steps=1, prompts=[(1,), (2,)])
    engine: Any = SimpleNamespace(divided=True)
    with pytest.raises(CodealignError, match=r"gradient_variance_steps.*--accelerate single"):
        Updater(engine, t.module, t.algorithm, t.accelerator, t.config, t.tally)


def test_a_checkpoint_of_another_division_is_refused(tmp_path: Path) -> None:
    t = trainer("reinforce", nothing, folder=tmp_path, tokenizer=Letters(), loop={"max_steps": 1})
    assert isinstance(t.engine, Plain)
    t.train()
    plain = tmp_path / "checkpoint-1"
    with pytest.raises(CodealignError, match=r"written without ZeRO.*launch configuration of before"):
        checkpoint.read(plain, 0, divided=True)
    torch.save({"states": []}, plain / "optimizer-0.pt")
    with pytest.raises(CodealignError, match="written under ZeRO"):
        checkpoint.read(plain, 0, divided=False)
