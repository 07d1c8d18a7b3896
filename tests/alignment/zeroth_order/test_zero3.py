"""Shares of weights that are divided over processes go the way of the whole, however many there are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.zeroth_order import weights, zero3
from alignment.zeroth_order.snapshots import load_snapshot, save_snapshot
from alignment.zeroth_order.trainer import Settings, ZerothOrder
from codegen_eval.errors import CodealignError
from tests.alignment.zeroth_order.divided import divided, joined
from tests.alignment.zeroth_order.small import Small

SETTINGS = [
    Settings(weight_decay=0.1),
    Settings(sparsity=0.5, mask_every=2, directions=2),
    Settings(estimator="ranking", directions=3, sparsity=0.25),
]


@pytest.fixture(autouse=True)
def _gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (zero3, weights):
        monkeypatch.setattr(module, "gathered", lambda parameters: contextlib.nullcontext())


@pytest.mark.parametrize("world", [1, 2, 3, 5, 25])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("piece", [3, 8, 1 << 22])
def test_the_shares_of_all_processes_are_the_weights_of_one(
    monkeypatch: pytest.MonkeyPatch, world: int, settings: Settings, piece: int
) -> None:
    monkeypatch.setattr(weights, "PIECE", piece)
    whole, models = Small(), [divided(rank, world) for rank in range(world)]
    trainers = [ZerothOrder(model, settings, seed=3) for model in (whole, *models)]
    assert len({str(trainer.header()) for trainer in trainers}) == 1, "a run goes on in any mode"
    for trainer in trainers:
        values = iter(range(100))
        for _ in range(3):
            trainer.step(0.01, lambda values=values: [float(next(values)) ** 0.5], lambda step: None)
    for parameter, parts in zip(whole.parameters(), joined(models), strict=True):
        count = parameter.numel()
        assert torch.equal(parts[:count], parameter.data.flatten())
        assert torch.equal(parts[count:], torch.full_like(parts[count:], 7.0)), "padding stays"


def test_a_snapshot_of_divided_weights_is_taken_up_by_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = ZerothOrder(divided(0, 2), Settings()), ZerothOrder(divided(1, 2), Settings())
    for trainer in (one, two):
        trainer.mover.shift(1, 0.5)
    start = Small()
    shares = {w.name: torch.cat([w.flat, v.flat]) for w, v in zip(one.weights, two.weights, strict=True)}

    @contextlib.contextmanager
    def whole(self: Any) -> Iterator[torch.Tensor]:
        yield shares[self.name].view(self.shape)

    monkeypatch.setattr(weights.Weight, "whole", whole)
    assert not save_snapshot(tmp_path, two.weights, 4, writes=False).exists()
    save_snapshot(tmp_path, one.weights, 4)
    plain = ZerothOrder(start, Settings())
    assert load_snapshot(tmp_path, plain.weights, 9) == 4
    thirds = [ZerothOrder(divided(rank, 3), Settings()) for rank in range(3)]
    for third in thirds:
        load_snapshot(tmp_path, third.weights, 9)
    for number, weight in enumerate(plain.weights):
        assert torch.equal(weight.flat, shares[weight.name])
        assert torch.equal(weight.flat, torch.cat([third.weights[number].flat for third in thirds]))


def test_shares_that_lie_elsewhere_or_twice_are_refused() -> None:
    for name in ("nvme_swapper", "ds_secondary_tensor"):
        model = divided(0, 2)
        setattr(model.norm, name, object())
        with pytest.raises(CodealignError, match=r"NVMe.*zero_hpz_partition_size"):
            ZerothOrder(model, Settings())


def test_an_optimisers_settings_and_those_left_to_a_trainer_are_not_handed_on() -> None:
    given = {
        "zero_optimization": {
            "stage": 3,
            "reduce_bucket_size": "auto",
            "stage3_param_persistence_threshold": 1000,
            "offload_optimizer": {"device": "cpu"},
            "offload_param": {"device": "cpu"},
        },
        "optimizer": {"type": "AdamW"},
    }
    config = zero3._config(given)
    assert set(config) == {"train_micro_batch_size_per_gpu", "zero_optimization"}
    zero = config["zero_optimization"]
    assert zero.pop("stage3_param_persistence_threshold") == 0, "small weights are divided, too"
    assert zero == {"stage": 3, "offload_param": {"device": "cpu"}, "stage3_max_reuse_distance": 0}


def test_what_is_whole_needs_no_gathering_and_is_saved_by_the_process_that_writes(tmp_path: Path) -> None:
    class Saved(Small):
        def save_pretrained(self, folder: Path) -> None:
            folder.mkdir()

    zero3.save_model(Saved(), tmp_path / "other", writes=False)
    zero3.save_model(Saved(), tmp_path / "first", writes=True)
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
