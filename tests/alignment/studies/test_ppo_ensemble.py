"""PPO in the overoptimisation world: the policy is the world's, rewards are the aggregation's, the run."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment.studies import ppo_ensemble
from alignment.studies.overopt_world import World, draw
from alignment.studies.ppo_ensemble import PPOEnsembleConfig, curves, falls, run, table
from alignment.studies.ppo_ensemble_runs import Settings, reward_of, train
from alignment.studies.ppo_ensemble_world import Game, Policy, game, member_scores, play, reference_logits
from codegen_eval.errors import CodealignError

SMALL = World(pairs=320, validation=100, prompts=4, pool=512, members=3)


@cache
def small() -> Game:
    return game(SMALL, 0)


def test_gold_is_the_world_s_own() -> None:
    data = draw(SMALL, 0)
    counts = np.rint(data.pool * math.sqrt(SMALL.length)).astype(np.int64)
    np.testing.assert_array_equal(small().gold(counts), data.pool_gold)


def test_members_are_calibrated_on_the_validation_answers() -> None:
    data = draw(SMALL, 0)
    answers = torch.from_numpy(data.validation.reshape(-1, data.validation.shape[-1]))
    scores = member_scores(small(), answers * math.sqrt(SMALL.length))
    np.testing.assert_allclose(scores.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(scores.std(axis=0, ddof=1), 1.0, atol=1e-5)


def test_the_reference_is_a_distribution_with_the_world_s_chances() -> None:
    world = SMALL
    contexts = torch.tensor([0, 5, world.common])
    loops = torch.tensor([0, 3, 3])
    chances = reference_logits(small(), contexts, loops).exp().double()
    torch.testing.assert_close(chances.sum(1), torch.ones(3, dtype=torch.float64), atol=1e-5, rtol=0)
    # By hand: enter 0.003, stay 0.9, loop token 0.8 plus its share of the rest.
    looping = world.loop + (1 - world.loop) / world.tail
    assert float(chances[1, world.common + 3]) == pytest.approx(0.003 * looping, rel=1e-4)
    assert float(chances[1, world.common + 4]) == pytest.approx(0.003 * 0.2 / 64, rel=1e-4)
    assert float(chances[2, world.common + 3]) == pytest.approx(0.9 * looping, rel=1e-4)
    assert float(chances[2, : world.common].sum()) == pytest.approx(0.1, rel=1e-4)


@pytest.mark.slow
def test_answers_of_the_untrained_policy_are_the_world_s() -> None:
    found = play(Policy(small()), small(), 20_000, torch.Generator().manual_seed(1))
    counts = found.answers.numpy()
    assert (counts.sum(axis=1) == SMALL.length).all()
    pool = np.rint(draw(World(pairs=320, validation=100, prompts=16, pool=2048), 0).pool * math.sqrt(16))
    ours, theirs = ((a[..., 64:].sum(axis=-1) > 0).mean() for a in (counts, pool))
    assert ours == pytest.approx(theirs, abs=0.006)
    in_mode = [a[..., 64:].sum(axis=-1) for a in (counts, pool)]
    means = [float(number[number > 0].mean()) for number in in_mode]
    assert means[0] == pytest.approx(means[1], rel=0.07)
    gold = [small().gold(a.astype(np.int64)).mean() for a in (counts, pool)]
    assert gold[0] == pytest.approx(gold[1], abs=0.06)
    # Each token stands behind the counts of those before it.
    last = found.counts[:, -1].scatter_add(1, found.tokens[:, -1:], torch.ones(20_000, 1))
    assert torch.equal(last, found.answers)


def test_rewards_are_the_aggregation_s() -> None:
    scores = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert reward_of("single", scores, 1, 0.1).tolist() == [2.0, 0.0]
    assert reward_of("wco", scores, 0, 0.1).tolist() == [1.0, 0.0]
    # Variance by hand: (4 + 1 + 9) / 3.
    assert reward_of("uwo", scores, 0, 0.1).tolist() == pytest.approx([3.0 - 0.1 * 14 / 3, 0.0])


def test_a_training_starts_at_the_world_raises_what_it_optimises_and_repeats_itself() -> None:
    settings = Settings(steps=12, every=6, evaluation=128)
    first, again = (train(small(), "uwo", 0, 0.0, 0, settings) for _ in range(2))
    assert first == again and first["steps"] == [0, 6, 12]
    assert abs(first["kl"][0]) < 1e-4 and first["kl"][-1] > 0.1
    assert first["proxy"][-1] > first["proxy"][0] + 0.2


@pytest.mark.slow
def test_a_heavy_penalty_keeps_the_policy_where_it_is() -> None:
    settings = Settings(steps=12, every=12, evaluation=128)
    free, held = (train(small(), "uwo", 0, beta, 0, settings)["kl"][-1] for beta in (0.0, 10.0))
    assert held < 0.3 * free


def made_up(seed: int, reward: str, member: int, beta: float) -> dict[str, Any]:
    top = {"single": 1.0 + member, "wco": 2.0, "uwo": 3.0}[reward] + 0.5 * seed
    end = top - (1.0 if reward == "single" else 0.0)
    rest = {key: [0.0, 1.0, 2.0] for key in ("kl", "proxy", "mean", "spread", "tail")}
    labels = {"seed": seed, "reward": reward, "member": member, "beta": beta}
    return {**labels, "steps": [0, 10, 20], "gold": [0.0, top, end], **rest}


def test_single_is_the_mean_over_members_and_falls_are_counted_by_training() -> None:
    config = PPOEnsembleConfig(betas=(0.0,))
    rows = [made_up(seed, *given) for seed in (0, 1) for given in config.trainings()]
    assert curves(rows, "single", 0.0, "gold").tolist() == [[0.0, 1.5, 0.5], [0.0, 2.0, 1.0]]
    assert falls(rows, "single", 0.0).tolist() == [1.0] * 4 and falls(rows, "wco", 0.0).tolist() == [0.0] * 2
    text = table(rows, config)
    assert "| single | 0 | 1.75 | 0.75 ± 0.35 | 1.00 | 4 of 4 | 2.00 | 2.00 | 2.00 |" in text
    assert "- WCO, beta 0: 1.50 ± 0.00, above 0 in 2 of 2" in text


@pytest.mark.slow
def test_a_study_goes_on_after_a_kill_and_takes_more_seeds_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, str, int, float]] = []
    kills = [4]

    def fake(_: Any, reward: str, member: int, beta: float, seed: int, settings: Settings) -> Any:
        if kills and len(made) == kills[0]:
            kills.clear()
            raise KeyboardInterrupt
        made.append((seed, reward, member, beta))
        return {k: v for k, v in made_up(seed, reward, member, beta).items() if isinstance(v, list)}

    monkeypatch.setattr(ppo_ensemble, "train", fake)
    monkeypatch.setattr(ppo_ensemble, "game", lambda *_: None)
    config = PPOEnsembleConfig(out=tmp_path / "run", seeds=1)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    run(config)
    run(config.model_copy(update={"seeds": 2, "figure": tmp_path / "page.svg"}))
    assert made == [(seed, r, m, b) for seed in (0, 1) for r, m, b in config.trainings()]
    rows = json.loads((tmp_path / "run/results.json").read_text())
    assert [row["seed"] for row in rows] == [0] * 8 + [1] * 8
    assert (tmp_path / "page.svg").read_text() == (tmp_path / "run/ppo_ensemble.svg").read_text()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(CodealignError, match="did you mean 'wco'"):
        PPOEnsembleConfig.parse(["--rewards", "wc"], prog="p", description="")
    with pytest.raises(CodealignError, match="0 or more"):
        PPOEnsembleConfig.parse(["--betas", "-0.1"], prog="p", description="")
