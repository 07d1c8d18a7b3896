"""The ensemble as a reward function: TRL's form, scales, and members that misbehave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment.rewards.aggregation import Calibration
from alignment.rewards.ensemble import EnsembleReward
from codegen_eval.errors import CodealignError
from tests.alignment import tiny

UNIT = Calibration(0.0, 1.0, 10)


def length(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def vowels(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
    return [float(sum(text.count(v) for v in "aeiou")) for text in completions]


class Judge:
    calibration = Calibration(mean=2.0, std=0.5, samples=10)

    def score(self, prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
        return [2.0 + answer for answer in columns["answer"]]


TEXTS = (["p", "p", "q"], ["ae", "abc", "xyz"])


def test_scores_are_combined_by_the_objective() -> None:
    members = {"length": length, "vowels": vowels}
    scores = [(2.0, 2.0), (3.0, 1.0), (3.0, 0.0)]
    mean = EnsembleReward(members, uncalibrated=True)(*TEXTS)
    assert mean == [sum(pair) / 2 for pair in scores]
    assert EnsembleReward(members, "wco", uncalibrated=True)(*TEXTS) == [min(pair) for pair in scores]
    uwo = EnsembleReward(members, "uwo", lam=0.1, uncalibrated=True)(*TEXTS)
    assert uwo == pytest.approx([2.0, 2.0 - 0.1 * 1.0, 1.5 - 0.1 * 2.25])
    assert EnsembleReward(members, "uwo", lam=0.0, uncalibrated=True)(*TEXTS) == mean


def test_objects_with_a_score_and_columns_of_the_data_set_work() -> None:
    reward = EnsembleReward([Judge()], "wco")
    assert reward(*TEXTS, answer=[0.0, 1.0, -1.0]) == [0.0, 2.0, -2.0]


def test_uncalibrated_members_are_refused_by_name() -> None:
    with pytest.raises(CodealignError, match="no calibration for length, vowels"):
        EnsembleReward({"length": length, "judge": Judge(), "vowels": vowels}, "wco")
    with pytest.raises(CodealignError, match="no calibration for vowels"):
        EnsembleReward({"length": length, "vowels": vowels}, calibration={"length": UNIT})
    EnsembleReward({"length": length, "vowels": vowels}, calibration={"length": UNIT, "vowels": UNIT})


def test_one_member_needs_no_scale() -> None:
    assert EnsembleReward([length], "uwo")(*TEXTS) == [2.0, 3.0, 3.0]


def test_a_calibration_of_nobody_is_refused() -> None:
    with pytest.raises(CodealignError, match="calibration of lenght: no such member; there are length"):
        EnsembleReward({"length": length}, calibration={"lenght": UNIT})


def test_a_calibration_that_is_given_wins_over_the_members_own() -> None:
    reward = EnsembleReward({"judge": Judge()}, calibration={"judge": UNIT})
    assert reward(["p"], ["c"], answer=[1.0]) == [3.0]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (lambda **_: [1.0, 2.0], "member 'bad' returned 2 scores for 3 completions"),
        (lambda **_: [1.0, None, 2.0], "member 'bad' has no score for sample 1"),
        (lambda **_: [1.0, 2.0, float("nan")], "member 'bad' gave sample 2 the score nan"),
        (lambda **_: [1.0, float("-inf"), 2.0], "member 'bad' gave sample 1 the score -inf"),
        (lambda **_: ["high", 1.0, 2.0], "member 'bad' must return one number a completion"),
        (lambda **_: None, "member 'bad' must return one number a completion"),
    ],
)
def test_a_member_that_does_not_score_everything_is_an_error(member: Any, message: str) -> None:
    for objective in ("mean", "wco", "uwo"):
        reward = EnsembleReward({"good": length, "bad": member}, objective, uncalibrated=True)  # type: ignore[arg-type]
        with pytest.raises(CodealignError, match=message):
            reward(*TEXTS)


def test_a_row_without_a_score_has_no_reward_at_all_if_asked_for() -> None:
    def partly(**_: Any) -> list[float | None]:
        return [1.0, None, 2.0]

    reward = EnsembleReward({"length": length, "partly": partly}, "wco", uncalibrated=True, missing="none")
    assert reward(*TEXTS) == [1.0, None, 2.0]
    assert reward.last is not None and reward.last.samples == (0, 2)
    nothing = EnsembleReward({"a": lambda **_: [None] * 3}, missing="none")
    assert nothing(*TEXTS) == [None, None, None]


def test_what_cannot_score_is_refused_when_the_ensemble_is_made() -> None:
    with pytest.raises(CodealignError, match=r"member 'x' cannot score.*int"):
        EnsembleReward({"x": 3})
    with pytest.raises(CodealignError, match="at least one member"):
        EnsembleReward([])
    with pytest.raises(CodealignError, match="unknown objective"):
        EnsembleReward([length], "best")  # type: ignore[arg-type]
    with pytest.raises(CodealignError, match="lambda"):
        EnsembleReward([length], "uwo", lam=float("nan"))
    with pytest.raises(CodealignError, match="missing must be"):
        EnsembleReward([length], missing="drop")  # type: ignore[arg-type]


def test_prompts_and_completions_must_fit() -> None:
    with pytest.raises(CodealignError, match="2 prompts do not fit 1 completions"):
        EnsembleReward([length])(["a", "b"], ["c"])


def test_member_scores_variance_and_the_deciding_member_are_logged() -> None:
    metrics: dict[str, float] = {}
    columns: dict[str, list[Any]] = {}
    reward = EnsembleReward({"length": length, "vowels": vowels}, "wco", uncalibrated=True)
    reward(*TEXTS, log_extra=columns.__setitem__, log_metric=metrics.__setitem__)
    assert columns == {
        "score_length": [2.0, 3.0, 3.0],
        "score_vowels": [2.0, 1.0, 0.0],
        "ensemble_variance": [0.0, 1.0, 2.25],
        "ensemble_lowest": ["length", "vowels", "vowels"],
    }
    assert metrics == {
        "ensemble/variance": pytest.approx(3.25 / 3),
        "ensemble/mean": pytest.approx(5.5 / 3),
        "ensemble/length/score": pytest.approx(8 / 3),
        "ensemble/length/lowest": pytest.approx(1 / 3),
        "ensemble/vowels/score": 1.0,
        "ensemble/vowels/lowest": pytest.approx(2 / 3),
    }


@pytest.mark.slow
def test_trls_grpo_trains_on_the_ensemble_and_logs_its_members(tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    rewards: list[list[float | None]] = []

    class Recorded(EnsembleReward):
        def __call__(self, *args: Any, **kwargs: Any) -> list[float | None]:
            rewards.append(super().__call__(*args, **kwargs))
            return rewards[-1]

    scale = {"length": Calibration(10.0, 5.0, 9), "vowels": Calibration(3.0, 2.0, 9)}
    reward = Recorded({"length": length, "vowels": vowels}, "uwo", lam=0.1, calibration=scale)
    trainer = trl.GRPOTrainer(
        model=str(tiny.save_model(tmp_path / "model")),
        reward_funcs=reward,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path / "out"), use_cpu=True, bf16=False, report_to="none", max_steps=2,
            per_device_train_batch_size=4, num_generations=4, max_completion_length=6, logging_steps=1,
            scale_rewards="none", gradient_checkpointing=False, save_strategy="no",
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "def f(xs):\n"}] * 8),
    )  # fmt: skip
    trainer.train()
    logs = [row for row in trainer.state.log_history if "ensemble/variance" in row]
    assert len(logs) == 2 == len(rewards)
    for row, given in zip(logs, rewards, strict=True):
        assert row["reward"] == pytest.approx(sum(given) / 4, abs=1e-5)  # type: ignore[arg-type]
        assert {"ensemble/length/score", "ensemble/vowels/lowest", "ensemble/mean"} <= set(row)
        assert row[f"rewards/{reward.__name__}/mean"] == pytest.approx(row["reward"], abs=1e-5)
