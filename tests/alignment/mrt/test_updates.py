"""Updates: losses are what they say, however rows are parted; a loaded state goes on to the same weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.mrt.updates import Row, Updates, epoch_batches, finetune, imitation_losses
from codegen_eval.errors import CodealignError
from tests.alignment.mrt.made_up import trained
from tests.alignment.mrt.two_ranks import scaled

ROWS = [
    Row((5, 6, 12, 4, 3, 4), (0, 0, 0, 1, 1, 1)),
    Row((7, 8, 9, 12, 5, 4, 4, 13, 5), (0, 0, 0, 0, 1, 1, 1, 0, 1)),
    Row((3, 12, 4), (0, 0, 1)),
]


def model() -> Any:
    return copy.deepcopy(trained()[0])


def weights(net: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("micro_rows", [1, 2, 3])
def test_imitation_is_the_mean_over_the_tokens_that_count_however_rows_are_parted(micro_rows: int) -> None:
    net = model()
    total, count = 0.0, 0.0
    for row in ROWS:
        with torch.no_grad():
            logps = net(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for i in range(1, len(row.ids)):
            total -= row.weights[i] * float(logps[i - 1, row.ids[i]])
            count += row.weights[i]
    losses = [part().detach() for part in imitation_losses(net, ROWS, micro_rows)]
    assert len(losses) == -(-3 // micro_rows)
    assert float(sum(losses)) == pytest.approx(total / count, rel=1e-5)


def test_a_saved_state_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole, parted = model(), model()
    finetune(Updates(whole, learning_rate=1e-2), ROWS * 3, steps=6, batch=4, micro_rows=2, seed=1)

    class Killed(Exception):
        pass

    def kill(made: Updates, loss: float) -> None:
        if made.steps == 2:
            made.save(tmp_path, recent=[loss], block=[{"ids": [1]}])
        if made.steps == 3:
            raise Killed

    with pytest.raises(Killed):
        finetune(
            Updates(parted, learning_rate=1e-2), ROWS * 3, steps=6, batch=4, micro_rows=2, seed=1, after=kill
        )
    again = Updates(model(), learning_rate=1e-2)
    more = again.load(tmp_path)
    assert again.steps == 2 and len(more["recent"]) == 1 and more["block"] == [{"ids": [1]}]
    finetune(again, ROWS * 3, steps=6, batch=4, micro_rows=2, seed=1)
    assert torch.equal(weights(again.model), weights(whole))
    assert not torch.equal(weights(whole), weights(model()))


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    Updates(model(), learning_rate=1e-3).save(tmp_path)
    net = model()
    net.transformer.wpe.weight.requires_grad_(False)
    with pytest.raises(CodealignError, match="other weights than this model"):
        Updates(net, learning_rate=1e-3).load(tmp_path)


def test_a_state_of_another_division_is_refused(tmp_path: Path) -> None:
    updates = Updates(model(), learning_rate=1e-3)
    updates.save(tmp_path)
    updates.stepping.divided = True
    with pytest.raises(CodealignError, match=r"written without ZeRO.*launch configuration of before"):
        updates.load(tmp_path)
    torch.save({}, tmp_path / "optimizer-0.pt")
    updates.stepping.divided = False
    with pytest.raises(CodealignError, match="written under ZeRO"):
        updates.load(tmp_path)


def test_a_restart_forgets_moments_and_keeps_weights() -> None:
    net = model()
    updates = Updates(net, learning_rate=1e-2)
    updates.step(imitation_losses(net, ROWS, 3))
    again = Updates(copy.deepcopy(net), learning_rate=1e-2)
    updates.restart()
    assert updates.steps == 0
    for one in (updates, again):
        one.step(imitation_losses(one.model, ROWS[:1], 3))
    assert torch.equal(weights(net), weights(again.model))


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    net = model()
    before = weights(net)
    updates = Updates(net, learning_rate=1e-2)
    bad = scaled(imitation_losses(net, ROWS, 3), math.nan)
    with pytest.raises(CodealignError, match="lower the learning rate"):
        updates.step(bad)
    assert torch.equal(weights(net), before) and updates.steps == 0


def test_the_rate_warms_up_linearly() -> None:
    net = model()
    updates = Updates(net, learning_rate=1.0, warmup_steps=3)
    rates = []
    for _ in range(5):
        updates.step(scaled(imitation_losses(net, ROWS, 3), 0.0))
        rates.append(updates.optimizer.param_groups[0]["lr"])
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_epochs_hold_every_row_once_in_orders_of_their_own() -> None:
    batches = epoch_batches(10, 4, 10, seed=0)
    flat = [place for batch in batches for place in batch]
    epochs = [flat[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs) and epochs[0] != epochs[1]
    assert epoch_batches(10, 4, 5, seed=0) == batches[:5]
    assert [len(batch) for batch in epoch_batches(2, 64, 3, seed=0)] == [2, 2, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda: Row((1,), (1.0,)),
        lambda: Row((1, 2), (1.0,)),
        lambda: epoch_batches(0, 1, 1, 0),
        lambda: imitation_losses(model(), [Row((1, 2), (1.0, 0.0))], 1),
    ],
)
def test_rows_that_teach_nothing_are_refused(call: Any) -> None:
    with pytest.raises(CodealignError):
        call()
