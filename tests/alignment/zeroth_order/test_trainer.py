"""Steps and their replay: what moves, by how much, and that a log is all it takes to get there again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment.zeroth_order.steplog import Step, StepLog
from alignment.zeroth_order.trainer import PATIENCE, Settings, ZerothOrder, direction_seeds, replay_log
from alignment.zeroth_order.weights import Mover, trained_weights
from codegen_eval.errors import CodealignError
from tests.alignment.zeroth_order.small import Small, equal, loss, state

SETTINGS = {
    "mezo": Settings(),
    "three directions, decay": Settings(directions=3, weight_decay=0.1),
    "sparse": Settings(sparsity=0.75, mask_every=1),
    "sparse, masks kept": Settings(sparsity=0.5, mask_every=4, directions=2),
    "ranking": Settings(estimator="ranking", directions=4, ranking_keep=2),
    "coarse": Settings(eps=0.3),
}


def direction(model: Small, seed: int) -> dict[str, torch.Tensor]:
    """z as the trainer draws it, from the definition: one stream over the parameters in their order."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in ("embed", "norm", "bias"):
        value = getattr(model, name)
        found[name] = torch.randn(value.numel(), generator=generator).view(value.shape)
    return found


def run(model: Small, settings: Settings, count: int, rate: float = 0.05) -> tuple[ZerothOrder, list[Step]]:
    trainer = ZerothOrder(model, settings, seed=3)
    kept: list[Step] = []
    for _ in range(count):
        trainer.step(rate, lambda: [loss(model)], kept.append)
    return trainer, kept


def test_a_step_goes_against_the_difference_along_its_direction() -> None:
    model = Small()
    before, z = Small(), direction(Small(), direction_seeds(3, 0, 1)[0])
    eps = 1e-3
    values = []
    for sign in (1, -1):
        moved = Small()
        for name, part in z.items():
            getattr(moved, name).data.add_(part, alpha=sign * eps)
        values.append(loss(moved))
    expected = (values[0] - values[1]) / (2 * eps)
    _, (step,) = run(model, Settings(), 1, rate=0.5)
    ((_, factor),) = step.moves
    assert factor == pytest.approx(expected, rel=1e-3)
    for name, part in z.items():
        wanted = getattr(before, name) - 0.5 * factor * part
        assert torch.allclose(getattr(model, name), wanted, atol=1e-6), name
    assert step.loss == pytest.approx(sum(values) / 2, rel=1e-5)


def test_decay_spares_biases_norms_and_what_is_frozen() -> None:
    model = Small()
    trainer = ZerothOrder(model, Settings(weight_decay=0.5), seed=3)
    trainer.step(0.1, lambda: [1.0], lambda _: None)  # no slope, so decay is all that happens
    assert torch.allclose(model.embed, Small().embed * 0.95, atol=1e-6)
    assert torch.allclose(model.norm, torch.ones(4), atol=1e-6) and torch.allclose(
        model.bias, torch.zeros(6), atol=1e-6
    )
    assert torch.equal(model.frozen, torch.ones(3))


def test_tied_weights_are_moved_once_and_stay_tied() -> None:
    weights = trained_weights(Small())
    assert [weight.name for weight in weights] == ["embed", "norm", "bias"]
    model = Small()
    Mover(trained_weights(model)).shift(7, 1.0)
    assert model.head is model.embed
    assert torch.equal(model.embed, Small().embed + direction(Small(), 7)["embed"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_refused_and_adapters_beside_them_are_not(dtype: torch.dtype) -> None:
    with pytest.raises(
        CodealignError, match=r"embed is stored as .*float16.*dtype: float32, or train adapters"
    ):
        trained_weights(Small().to(dtype))
    model = Small().to(dtype).requires_grad_(False)
    model.adapter = torch.nn.Parameter(torch.zeros(2, 2))
    assert [weight.name for weight in trained_weights(model)] == ["adapter"]
    with pytest.raises(CodealignError, match="no trainable parameter"):
        trained_weights(Small().requires_grad_(False))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_log_replays_to_the_same_bits(settings: Settings, tmp_path: Path) -> None:
    trained = Small()
    trainer = ZerothOrder(trained, settings, seed=3)
    log = StepLog(tmp_path / "steps.jsonl", trainer.header())
    log.open()
    for i in range(25):
        broken = i == 7  # a step that is skipped is part of it
        trainer.step(
            0.05 / (i + 1),
            lambda broken=broken: [math.nan if broken else loss(trained)],
            lambda step: log.append([step]),
        )
    again = Small()
    assert replay_log(again, log.path) == 25
    assert equal(state(trained), state(again)) and not equal(state(trained), state(Small()))


@pytest.mark.parametrize("settings", [SETTINGS["three directions, decay"], SETTINGS["sparse, masks kept"]])
def test_half_a_run_and_its_replay_go_on_as_the_whole(settings: Settings) -> None:
    whole = Small()
    run(whole, settings, 12)
    first = Small()
    _, kept = run(first, settings, 5)
    second = Small()
    trainer = ZerothOrder(second, settings, seed=3)
    trainer.replay(kept)
    assert trainer.done == 5
    for _ in range(7):
        trainer.step(0.05, lambda: [loss(second)], lambda _: None)
    assert equal(state(whole), state(second))


def test_a_step_leaves_every_other_stream_of_random_numbers_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    run(Small(), Settings(directions=2), 2)
    assert torch.equal(torch.rand(3), expected)


def test_values_that_are_not_finite_move_nothing_and_are_counted() -> None:
    model = Small()
    trainer = ZerothOrder(model, Settings(directions=2, weight_decay=0.1), seed=3)
    answers = iter([math.inf, 1.0, math.nan, 2.0])
    step = trainer.step(0.1, lambda: [next(answers)], lambda _: None)
    assert step.skipped == 2 and trainer.done == 1
    for one, other in zip(state(model), state(Small()), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    half = iter([1.0, 2.0, math.nan, 2.0])
    step = trainer.step(0.1, lambda: [next(half)], lambda _: None)
    assert step.skipped == 1 and step.moves[0][1] == pytest.approx(-250), "(1 - 2) / (2 * 0.001 * 2)"


def test_a_run_of_skipped_steps_ends_with_what_to_lower() -> None:
    trainer = ZerothOrder(Small(), Settings(), seed=3)
    with pytest.raises(CodealignError, match=rf"{PATIENCE} steps in a row.*learning_rate \(0.1\) or eps"):
        for _ in range(PATIENCE + 1):
            trainer.step(0.1, lambda: [math.nan], lambda _: None)


def test_a_mask_keeps_large_weights_where_they_are_and_moves_vectors_whole() -> None:
    model = Small()
    run(model, Settings(sparsity=0.75, mask_every=100), 5)
    # Unmoved weights come back from +eps, -2 eps, +eps only if they were never touched: bit for bit.
    same = model.embed == Small().embed
    large = Small().embed.abs() > Small().embed.abs().flatten().kthvalue(6).values
    assert torch.equal(same, large)
    assert (model.norm != 1).all() and (model.bias != 0).all()


@pytest.mark.parametrize("name", ["mezo", "sparse", "ranking"])
def test_the_loss_of_a_toy_model_falls(name: str) -> None:
    model = Small()
    before = loss(model)
    settings = SETTINGS[name] if name != "ranking" else replace(SETTINGS[name], eps=0.05)
    run(model, settings, 150, rate=0.05 if name != "ranking" else 0.2)
    assert loss(model) < before - 0.5


def test_rows_count_only_where_both_sides_have_a_value() -> None:
    trainer = ZerothOrder(Small(), Settings(eps=0.5), seed=3)
    answers = iter([[1.0, None, 9.0], [0.0, 4.0, None]])
    step = trainer.step(0.1, lambda: next(answers), lambda _: None)
    assert step.moves[0][1] == pytest.approx(1.0)


def test_seeds_depend_on_run_and_step_alone() -> None:
    assert direction_seeds(0, 5, 3) == direction_seeds(0, 5, 3)
    many = {tuple(direction_seeds(seed, step, 2)) for seed in range(3) for step in range(200)}
    assert len(many) == 600 and len({seed for pair in many for seed in pair}) == 1200


def test_a_log_of_other_weights_is_refused(tmp_path: Path) -> None:
    trainer, kept = run(Small(), Settings(), 2)
    log = StepLog(tmp_path / "steps.jsonl", trainer.header())
    log.open()
    log.append(kept)
    other = torch.nn.Linear(3, 3)
    with pytest.raises(CodealignError, match="other weights or another device"):
        replay_log(other, log.path)
