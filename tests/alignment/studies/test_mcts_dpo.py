"""The study of step pairs: claims that can fail, a table of what the seeds say, a small run of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment.search.settings import PickConfig
from alignment.studies.mcts_dpo import StudyConfig, accuracy, arm_config
from alignment.studies.mcts_dpo_base import Base, sum_tokenizer, train_base
from alignment.studies.mcts_dpo_page import curves, lead, table, verdicts
from codegen_eval.tasks.running_sum import ALPHABET


def row(seed: int, base: float, steps: list[float], answers: list[float]) -> dict[str, Any]:
    def arm(scores: list[float]) -> dict[str, Any]:
        return {"greedy": scores, "sampled": [s / 2 for s in scores], "pairs": [9] * 2, "tokens": [700] * 2}

    return {
        "seed": seed,
        "base": {"greedy": base, "sampled": base / 2},
        "steps": arm(steps),
        "answers": arm(answers),
    }


ROWS = [row(0, 0.4, [0.5, 0.7], [0.5, 0.66]), row(1, 0.5, [0.6, 0.72], [0.55, 0.7])]


def test_claims_hold_and_fail_by_every_seed_and_the_mean_lead() -> None:
    assert all(verdicts(ROWS).values())
    assert list(verdicts([*ROWS, row(2, 0.5, [0.6, 0.69], [0.6, 0.6])]).values()) == [False, True]
    assert list(verdicts([*ROWS, row(2, 0.4, [0.6, 0.7], [0.6, 0.9])]).values()) == [True, False]


def test_lead_and_standard_error_by_hand() -> None:
    means, errors = lead(ROWS, "greedy")
    assert means == pytest.approx([0.0, 0.025, 0.03])
    assert errors == pytest.approx([0.0, 0.025, 0.01])  # sd of (0.04, 0.02) is 0.01414, over sqrt(2)
    assert all(math.isnan(error) for error in lead(ROWS[:1], "greedy")[1])


def test_the_table_gives_every_round_and_seed_and_says_no_where_a_claim_fails() -> None:
    text = table(ROWS)
    assert "| greedy | base | 0.450 | 0.450 | - | - |" in text
    assert "| greedy | 2 | 0.710 | 0.680 | +0.030 (0.010) | 2 of 2 |" in text
    assert "| sampled | 2 | 0.355 | 0.340 | +0.015 (0.005) | 2 of 2 |" in text
    assert "| 1 | 0.500 | 0.720 | 0.700 | +0.020 | 9/9 | 9/9 | 1,400 | 1,400 |" in text
    assert text.count("- yes: ") == 2 and "NO" not in text
    assert "- NO: step pairs gain" in table([row(0, 0.5, [0.5, 0.6], [0.5, 0.5])])


def test_curves_are_drawn_for_one_seed_and_for_several(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, rows in (("one", ROWS[:1]), ("two", ROWS)):
        curves(rows, tmp_path / f"{name}.svg")
        assert "lead of step pairs" in (tmp_path / f"{name}.svg").read_text()


def test_both_arms_get_prompts_of_one_pool_and_as_many_tokens() -> None:
    config = StudyConfig(base=Base(digits=5))
    steps = arm_config(config, Path("s"), Path("b"), "steps", 3, None)
    answers = arm_config(config, Path("a"), Path("b"), "answers", 3, 4321)
    assert steps.task == answers.task and steps.seed == answers.seed == 3
    assert (steps.prompts, steps.tokens, answers.prompts, answers.tokens) == (128, None, None, 4321)
    assert steps.sampling == answers.sampling and steps.sampling.answer_tokens == 8
    assert steps.search.depth_limit == 4 and answers.pairs == PickConfig(level="answers")


def test_the_tokenizer_has_one_token_a_character() -> None:
    tokenizer = sum_tokenizer()
    assert tokenizer.encode("90=1;") == [9, 0, 10, 1, 11] and len(tokenizer) == len(ALPHABET)
    assert tokenizer.decode([9, 0, 10, 1, 11]) == "90=1;" and tokenizer.eos_token_id == 11


def test_a_seed_trains_the_same_base_model_every_time(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    small = Base(width=16, heads=2, steps=3, batch=8, digits=3)
    losses = [train_base(small, seed, tmp_path / str(i)) for i, seed in enumerate((0, 0, 1))]
    assert losses[0] == losses[1] != losses[2]
    weights = [(tmp_path / str(i) / "model.safetensors").read_bytes() for i in range(3)]
    assert weights[0] == weights[1] != weights[2]
    scores = accuracy(StudyConfig(base=small, questions=50), tmp_path / "0")
    assert set(scores) == {"greedy", "sampled"} and 0 <= scores["greedy"] <= 0.2
