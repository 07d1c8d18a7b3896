"""The study with trained reward models: its world is the other study's, members resume, one run for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.bon_curves import SELECTORS
from alignment.studies import overopt_models
from alignment.studies.overopt_models import OveroptModelsConfig, outcome_of, run
from alignment.studies.overopt_text import draw_texts, save_start, words
from alignment.studies.overopt_world import World, draw

SMALL = World(pairs=64, validation=40, prompts=3, pool=16, members=2)


def counts(text: str) -> np.ndarray:
    found = np.zeros(SMALL.common + SMALL.tail)
    for word in text.split():
        found[words(SMALL).index(word)] += 1
    return found


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_texts_are_the_answers_of_the_miniature_with_the_same_gold_and_labels(noise: float) -> None:
    world = World(pairs=64, validation=40, prompts=3, pool=16, members=2, noise=noise)
    texts, data = draw_texts(world, 5), draw(world, 5)
    assert np.array_equal(texts.pool_gold, data.pool_gold) and texts.flipped == data.flipped
    root = np.sqrt(world.length)
    pool = np.array([counts(answer) for _, answer in texts.pool]).reshape(data.pool.shape)
    assert np.allclose(pool, data.pool * root, atol=1e-4)
    assert np.array_equal(texts.tail, np.rint(data.pool[..., world.common :].sum(-1) * root))
    assert len(texts.train) == world.pairs, "no answers of a pair are equal here"
    assert np.allclose([counts(p.chosen) for p in texts.train], data.chosen * root, atol=1e-4)
    assert np.allclose([counts(p.rejected) for p in texts.validation], data.validation[1] * root, atol=1e-4)


def perfect(world: World, texts: Any, seed: int, member: int, work: Path) -> dict[str, Any]:
    """A member that knows gold but for a scale of its own."""
    gold = (texts.pool_gold.ravel() * (member + 1)).tolist()
    pairs = len(texts.validation)
    return {"validation": [[1.0 + member] * pairs, np.linspace(-1, 0, pairs).tolist()], "pool": gold}


def config(out: Path, **changes: Any) -> OveroptModelsConfig:
    sizes = {"seeds": 2, "members": 2, "pairs": 64, "validation": 40, "prompts": 3, "pool": 16}
    return OveroptModelsConfig(out=out, plot=False, **{**sizes, **changes})


def test_members_that_know_gold_select_the_best_by_every_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overopt_models, "train_and_score", perfect)
    directory = run(config(tmp_path / "run", clean=False))
    rows = [json.loads(line) for line in (directory.path / "members.jsonl").read_text().splitlines()]
    outcome = outcome_of(SMALL, rows, 0.5)
    best = np.mean([draw_texts(SMALL, seed).pool_gold.max(axis=1).mean() for seed in (0, 1)])
    for name in SELECTORS:
        # Scales differ between members by a factor that calibration takes out.
        assert outcome.curves[name].gold[-1] == pytest.approx(best, abs=0.15)
    assert outcome.accuracy == 1.0
    assert "| single |" in (directory.path / "table.md").read_text()


def test_a_stopped_study_trains_only_the_members_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []

    def counted(world: World, texts: Any, seed: int, member: int, work: Path) -> dict[str, Any]:
        if len(calls) == 5:
            calls.append((-1, -1))
            raise KeyboardInterrupt
        calls.append((seed, member))
        return perfect(world, texts, seed, member, work)

    monkeypatch.setattr(overopt_models, "train_and_score", counted)
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path / "run"))
    stopped = run(config(tmp_path / "run"))
    assert len(calls) == 9, "8 members of 2 settings x 2 seeds, one call was stopped"
    whole = run(config(tmp_path / "whole"))
    assert (stopped.path / "members.jsonl").read_bytes() == (whole.path / "members.jsonl").read_bytes()
    assert (stopped.path / "table.md").read_bytes() == (whole.path / "table.md").read_bytes()


def test_starts_differ_in_trunk_and_head_by_their_seed_alone(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    found = [
        load_file(str(save_start(tmp_path / str(i), SMALL, seed) / "model.safetensors"))
        for i, seed in enumerate((1, 1, 2))
    ]
    for name, value in found[0].items():
        assert bool((value == found[1][name]).all())
        if value.ndim > 1:
            # All but the padding's row of zeros.
            assert float((value == found[2][name]).float().mean()) < 0.02, name


@pytest.mark.slow
def test_trained_members_know_the_better_answer_more_often_than_not(tmp_path: Path) -> None:
    directory = run(config(tmp_path / "run", seeds=1, members=2, pairs=500, validation=100, clean=False))
    rows = [json.loads(line) for line in (directory.path / "members.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and rows[0]["pool"] != rows[1]["pool"]
    results = json.loads((directory.path / "results.json").read_text())
    assert results["25 % label noise"]["accuracy"] > 0.53
    assert not (directory.path / "work").exists()
