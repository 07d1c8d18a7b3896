"""The ReMax study: its task, the invariance that is exact, variance on both sides of 1, and its run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.studies import remax
from alignment.studies.remax import RemaxConfig, run
from alignment.studies.remax_page import tables
from alignment.studies.remax_runs import METHODS, Settings, train
from alignment.studies.remax_variance import Spread, measure
from alignment.studies.remax_world import (
    END,
    LETTERS,
    OFFSETS,
    PAD,
    SEPARATOR,
    Answers,
    Sorter,
    accuracy,
    answer,
    critic_of,
    draw_prompts,
    fine_tuned,
    log_probabilities,
    offset,
    right_answers,
    values,
)


def test_the_model_has_the_size_that_the_specification_names() -> None:
    assert sum(p.numel() for p in Sorter().parameters()) == 39_467


def test_accuracy_is_half_positions_half_exactness() -> None:
    prompt = torch.tensor([[3, 1, 2, 0, SEPARATOR]] * 4)
    assert right_answers(prompt)[0].tolist() == [0, 1, 2, 3, END]
    ids = torch.tensor([[0, 1, 2, 3, END], [0, 1, 2, 3, 3], [0, 1, 3, 2, END], [END, PAD, PAD, PAD, PAD]])
    found = accuracy(Answers(prompt, ids, ids != PAD))
    assert found.tolist() == [1.0, 0.5, 0.25, 0.0]
    assert set(offset(draw_prompts(200, torch.Generator().manual_seed(0))).tolist()) == set(OFFSETS)
    assert offset(prompt).unique().numel() == 1, "a function of the prompt alone"


def test_answers_end_once_greedy_ones_are_the_same_and_their_log_probability_is_the_model_s() -> None:
    policy, generator = fine_tuned(0, 5), torch.Generator().manual_seed(0)
    prompts = draw_prompts(32, generator)
    sampled, greedy = answer(policy, prompts, generator), answer(policy, prompts, None)
    assert torch.equal(greedy.ids, answer(policy, prompts, None).ids)
    for row, mask in zip(sampled.ids.tolist(), sampled.mask.tolist(), strict=True):
        length = row.index(END) + 1 if END in row else len(row)
        assert mask == [i < length for i in range(len(row))]
        assert all(token == PAD for token in row[length:])
    # A token at a time, without the rest of the answer behind it.
    with torch.no_grad():
        found, ids = log_probabilities(policy, sampled), prompts
        for t in range(sampled.ids.shape[1]):
            logps = policy(ids)[:, -1].log_softmax(-1).gather(1, sampled.ids[:, t, None])[:, 0]
            expected = torch.where(sampled.mask[:, t], logps, 0.0)
            torch.testing.assert_close(found[:, t], expected, atol=1e-5, rtol=1e-5)
            ids = torch.cat([ids, sampled.ids[:, t, None]], dim=1)
        assert values(critic_of(policy), sampled).abs().max() == 0
    assert int(prompts[:, :-1].max()) < LETTERS


@cache
def spreads() -> dict[str, Spread]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return measure(fine_tuned(0), ["acc + c(x)", "acc + 1", "bare acc"], 0, batches=8)
    finally:
        torch.set_num_threads(threads)


def test_an_offset_changes_no_gradient_of_remax_or_rloo_and_swells_that_of_reinforce() -> None:
    bare = spreads()["bare acc"]
    for name in ("acc + c(x)", "acc + 1"):
        for estimator in ("remax", "rloo"):
            assert spreads()[name].variance[estimator] == pytest.approx(bare.variance[estimator], rel=1e-4)
        assert spreads()[name].variance["reinforce"] > 2 * bare.variance["reinforce"]


def test_the_greedy_baseline_lowers_variance_with_an_offset_and_raises_it_without() -> None:
    ratio = {name: s.variance["remax"] / s.variance["reinforce"] for name, s in spreads().items()}
    assert ratio["acc + c(x)"] < 0.8
    assert ratio["acc + 1"] < 0.4
    assert ratio["bare acc"] > 1.0, "the honest case: no offset, no gain"


@pytest.mark.slow
def test_remax_learns_and_equal_seeds_give_equal_curves() -> None:
    first, again = (train("remax", 0, Settings(steps=steps))[1]["accuracy"] for steps in (40, 5))
    assert first[:5] == again
    assert sum(first[-10:]) / 10 > sum(first[:10]) / 10 + 0.03


def made_up(method: str, seed: int, config: RemaxConfig) -> dict[str, Any]:
    if method != "variance":
        level = 0.5 + 0.1 * METHODS.index(method) + 0.01 * seed
        numbers = {"final_sampled": level, "final_greedy": level, "cpu_seconds": 0.02, "state_mb": 0.63}
        return {"method": method, "seed": seed, "accuracy": [level] * 20, **numbers}
    spread = {
        "variance": {"reinforce": 2.0, "remax": 1.0, "batch_mean": 3.0, "rloo": 2.0},
        "signal": {"reinforce": 1.0, "remax": 4.0, "batch_mean": 1.0, "rloo": 1.0},
        "sampled": 0.5,
        "greedy": 0.75,
    }
    return {"method": method, "seed": seed, "spreads": {"after SFT": {"bare acc": spread}}}


def test_the_tables_hold_means_differences_on_the_same_seed_and_ratios() -> None:
    config = RemaxConfig(steps=20)
    text = tables([made_up(m, seed, config) for seed in (0, 1) for m in (*METHODS, "variance")])
    assert "| ReMax | 0.605 ± 0.007 |" in text
    assert "REINFORCE, no baseline: 0.100 ± 0.000, above 0 in 2 of 2" in text
    assert "PPO, 4 epochs: -0.200 ± 0.000, above 0 in 0 of 2" in text
    ratios = "0.500 ± 0.000 | 1.500 ± 0.000 | 1.000 ± 0.000 | 4.000 ± 0.000"
    assert f"| after SFT, bare acc | {ratios} | 0.500, greedy 0.750 |" in text


def test_a_study_goes_on_after_a_kill_and_takes_more_seeds_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []

    def part(method: str, seed: int, config: RemaxConfig) -> dict[str, Any]:
        if (method, seed) == ("ppo4", 0) and len(made) == 3:
            made.append(("killed", 0))
            raise KeyboardInterrupt
        made.append((method, seed))
        return made_up(method, seed, config)

    monkeypatch.setattr(remax, "run_part", part)
    config = RemaxConfig(out=tmp_path / "run", seeds=1, steps=20)
    with pytest.raises(KeyboardInterrupt):
        run(config)
    run(config)
    run(config.model_copy(update={"seeds": 2, "figure": tmp_path / "page.svg"}))
    expected = [(m, seed) for seed in (0, 1) for m in (*METHODS, "variance")]
    assert [entry for entry in made if entry[0] != "killed"] == expected
    rows = json.loads((tmp_path / "run/results.json").read_text())
    assert [(row["method"], row["seed"]) for row in rows] == expected
    assert (tmp_path / "page.svg").read_text() == (tmp_path / "run/remax_study.svg").read_text()
