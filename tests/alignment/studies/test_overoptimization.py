"""The overoptimisation study: its claim, the control that a sign error could not pass, and its world."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment import cli
from alignment.studies.overopt_world import Gold, Members, World, draw, sample
from alignment.studies.overoptimization import CONTROLS, Outcome, study

SEEDS = range(5)


@cache
def outcome(control: str | None = None) -> Outcome:
    return study(CONTROLS[control][0] if control else World(), SEEDS)


@pytest.mark.slow
def test_single_models_overoptimise_and_conservative_ensembles_do_not() -> None:
    assert all(outcome().criterion().values()), outcome().criterion()


@pytest.mark.slow
def test_without_label_noise_single_models_hardly_fall() -> None:
    noisy, clean = outcome().curves["single"], outcome("no-noise").curves["single"]
    assert clean.drop < 0.3
    assert noisy.drop > clean.drop + 0.3
    assert clean.gold.max() > noisy.gold.max() + 0.3, "right labels teach more"


@pytest.mark.slow
def test_the_world_is_the_one_of_the_specification() -> None:
    found = outcome()
    assert found.tail_share == pytest.approx(0.047, abs=0.004)
    assert found.accuracy == pytest.approx(0.64, abs=0.03)
    assert found.odd_spread > 1.8, "members must disagree about degenerate answers"
    assert found.curves["single"].gold[0] == pytest.approx(-0.05, abs=0.05)


SMALL = World(pairs=320, validation=50, prompts=2, pool=64, members=3)


def test_equal_seeds_give_equal_curves_whatever_other_seeds_run_beside() -> None:
    together, alone = study(SMALL, [3, 4]), study(SMALL, [4])
    for name, curve in alone.curves.items():
        np.testing.assert_allclose(together.curves[name].by_prompt[1], curve.by_prompt[0], atol=1e-4)
    assert (study(SMALL, [4]).curves["uwo"].gold == alone.curves["uwo"].gold).all()
    assert not np.allclose(study(SMALL, [5]).curves["mean"].gold, alone.curves["mean"].gold)


def test_the_study_leaves_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        study(SMALL, [0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_labels_are_flipped_as_often_as_asked_in_training_only() -> None:
    clean, noisy = draw(World(noise=0.0), 0), draw(World(), 0)
    assert clean.flipped == 0 and noisy.flipped == pytest.approx(0.25, abs=0.03)
    assert (clean.validation == noisy.validation).all()
    swapped = (clean.chosen != noisy.chosen).any(axis=1)
    assert (noisy.chosen[swapped] == clean.rejected[swapped]).all()
    assert (noisy.rejected[swapped] == clean.chosen[swapped]).all()


def test_gold_prefers_the_clean_chosen_side() -> None:
    world = World(noise=0.0, pairs=400)
    rng = np.random.default_rng(2)
    chain = np.cumsum(rng.dirichlet(np.full(world.common, 0.3), size=world.common), axis=1)
    gold = Gold(world, rng)
    data = draw(world, 2)
    both = np.stack([data.chosen, data.rejected]).astype(np.float64) * np.sqrt(world.length)
    answers = sample(world, chain, np.zeros(10, dtype=np.int64), rng)
    assert answers.sum(axis=1).tolist() == [world.length] * 10
    # The data's own generator makes chain and gold first, so the same seed gives the same gold, up to its
    # scale: pairs with tail tokens, whose price is in that scale, stay out.
    plain = (both[..., world.common :].sum(axis=-1) < 0.5).all(axis=0)
    scores = gold(both[:, plain])
    assert plain.sum() > 300 and (scores[0] >= scores[1] - 1e-4).all()


def test_a_tail_token_costs_what_the_world_says() -> None:
    answers = np.zeros((2, 128), dtype=np.int64)
    answers[:, 0] = 5
    answers[1, 100] = 3
    prices = [
        np.subtract(*Gold(World(tail_penalty=p), np.random.default_rng(0))(answers)) for p in (0.0, 0.2)
    ]
    assert prices == pytest.approx([0.0, 0.6])


def test_folded_gold_never_exceeds_1() -> None:
    world = World(fold=True, enter=0.0)
    rng = np.random.default_rng(0)
    chain = np.cumsum(rng.dirichlet(np.full(64, 0.3), size=64), axis=1)
    gold = Gold(world, rng)
    answers = sample(world, chain, rng.integers(64, size=500), rng)
    gold.standardise(answers)
    assert gold(answers).max() <= 1 and not answers[:, 64:].any()


def test_members_differ_before_training_and_share_a_trunk_only_where_asked() -> None:
    answers = torch.rand(1, 7, 128)
    apart, shared = Members(SMALL, [0]), Members(World(members=3, shared_trunk=True), [0])
    for members in (apart, shared):
        scores = members.score(answers)[0]
        assert not torch.allclose(scores[:, 0], scores[:, 1])
    assert not torch.equal(apart._weights[0][0], apart._weights[0][1])
    assert torch.equal(shared._weights[0][0], shared._weights[0][1])
    assert not torch.equal(shared._weights[2][0], shared._weights[2][1])


def test_training_all_members_at_once_equals_training_one_alone() -> None:
    data = draw(SMALL, 1)
    sides = [torch.from_numpy(side)[None] for side in (data.chosen, data.rejected)]
    many = Members(SMALL, [1, 2])
    many.train(*(side.expand(2, -1, -1) for side in sides))
    one = Members(SMALL, [1])
    one.train(*sides)
    pool = torch.from_numpy(data.pool[:1])
    torch.testing.assert_close(many.score(pool.expand(2, -1, -1))[:1], one.score(pool), atol=1e-4, rtol=1e-4)


def test_the_command_writes_results_table_and_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from alignment.studies import overoptimization

    monkeypatch.setattr(overoptimization, "World", lambda: SMALL)
    monkeypatch.setitem(overoptimization.CONTROLS, "no-noise", (SMALL, "small"))
    assert cli.main(["reproduce", "overoptimization", "--out", str(tmp_path / "run"), "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert "| single |" in said and "Criterion" in said
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert set(results) == {"25 % label noise", "no-noise"}
    assert len(results["no-noise"]["by_seed"]["uwo"]) == 2
    assert (tmp_path / "run/table.md").read_text() in said
    assert (tmp_path / "run/curves.svg").read_text().startswith("<?xml")


def test_an_unknown_study_or_control_gets_the_nearest_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "overoptimisation"]) == 2
    assert "did you mean 'overoptimization'" in capsys.readouterr().err
    assert cli.main(["reproduce", "overoptimization", "--control", "nonoise"]) == 2
    assert "no-noise" in capsys.readouterr().err
    assert cli.main(["reproduce", "--help"]) == 0
    assert "overoptimization" in capsys.readouterr().out
