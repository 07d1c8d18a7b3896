"""Aggregation: conventions stated, members never dropped, scales refused or kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from alignment.rewards.aggregation import OBJECTIVES, aggregate, calibrate
from codegen_eval.errors import CodealignError

SCORES = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-50, 50, width=32)
)


@given(SCORES)
def test_lambda_0_is_the_mean_exactly(scores: np.ndarray) -> None:
    assert (aggregate(scores, "uwo", lam=0).rewards == aggregate(scores, "mean").rewards).all()


@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_members_and_of_samples_changes_nothing(scores: np.ndarray, random: object) -> None:
    members, samples = list(range(scores.shape[1])), list(range(scores.shape[0]))
    random.shuffle(members)  # type: ignore[attr-defined]
    random.shuffle(samples)  # type: ignore[attr-defined]
    for objective in OBJECTIVES:
        whole = aggregate(scores, objective).rewards
        np.testing.assert_allclose(aggregate(scores[:, members], objective).rewards, whole, atol=1e-9)
        np.testing.assert_allclose(aggregate(scores[samples], objective).rewards, whole[samples], atol=1e-9)


@given(SCORES)
def test_conservative_rewards_never_exceed_the_mean(scores: np.ndarray) -> None:
    mean = aggregate(scores, "mean").rewards
    assert (aggregate(scores, "wco").rewards <= mean + 1e-9).all()
    assert (aggregate(scores, "uwo").rewards <= mean + 1e-9).all()


def test_the_penalty_is_the_variance_and_not_the_standard_deviation() -> None:
    # Members 0 and 4: mean 2, population variance 4, sample variance 8, standard deviation 2.
    assert aggregate([[0.0, 4.0]], "uwo", lam=0.5).rewards.tolist() == [0.0]
    assert aggregate([[0.0, 4.0]], "uwo", lam=0.5, ddof=1).rewards.tolist() == [-2.0]


@pytest.mark.parametrize("ddof", [0, 1])
def test_one_member_has_no_variance(ddof: int) -> None:
    found = aggregate([[3.0], [-1.0]], "uwo", ddof=ddof)
    assert found.rewards.tolist() == [3.0, -1.0] and found.variance.tolist() == [0.0, 0.0]


def test_the_deciding_member_is_the_first_of_the_lowest() -> None:
    assert aggregate([[2.0, 1.0, 1.0], [0.0, 5.0, 9.0]], "wco").lowest.tolist() == [1, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_missing_score_names_member_and_sample(bad: float | None) -> None:
    scores = np.array([[0.0, 1.0], [2.0, bad]], dtype=np.float64)
    with pytest.raises(CodealignError, match=r"member 'style' has no finite score for sample 1"):
        aggregate(scores, "mean", members=("tests", "style"))


def test_a_missing_score_of_a_pool_names_prompt_and_sample() -> None:
    scores = np.zeros((2, 3, 2))
    scores[1, 2, 0] = np.nan
    with pytest.raises(CodealignError, match=r"member 0 has no finite score for sample \(1, 2\)"):
        aggregate(scores, "wco")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "worst"}, "unknown objective 'worst'"),
        ({"objective": "uwo", "lam": -0.1}, "lambda"),
        ({"objective": "uwo", "lam": float("nan")}, "lambda"),
        ({"objective": "uwo", "ddof": 2}, "ddof"),
        ({"objective": "mean", "members": ("a",)}, "1 members are named"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        aggregate([[1.0, 2.0]], **options)  # type: ignore[arg-type]


def test_no_members_are_no_ensemble() -> None:
    with pytest.raises(CodealignError, match="at least one member"):
        aggregate(np.zeros((3, 0)), "mean")


def test_shifting_one_member_changes_the_worst_case_unless_it_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    scores, fixed = rng.normal(size=(50, 3)), rng.normal(size=(200, 3))
    shift = np.array([0.0, 0.0, 10.0])
    raw, moved = aggregate(scores, "wco"), aggregate(scores + shift, "wco")
    assert (raw.lowest != moved.lowest).any()

    def scaled(values: np.ndarray, calibration: np.ndarray) -> np.ndarray:
        columns = [calibrate(calibration[:, j]).apply(values[:, j]) for j in range(3)]
        return aggregate(np.stack(columns, axis=1), "wco").rewards

    np.testing.assert_allclose(scaled(scores + shift, fixed + shift), scaled(scores, fixed))


def test_calibration_is_mean_and_sample_deviation() -> None:
    scale = calibrate([1.0, 3.0])
    assert (scale.mean, scale.samples) == (2.0, 2)
    assert scale.std == pytest.approx(2**0.5)
    assert scale.apply([2.0 + 2**0.5]).tolist() == pytest.approx([1.0])


def test_a_floor_holds_up_the_scale_of_pass_rates_that_hardly_vary() -> None:
    assert calibrate([1.0, 1.0, 1.0], floor=0.1).std == 0.1
    with pytest.raises(CodealignError, match="suite a gives every calibration sample the score 1"):
        calibrate([1.0, 1.0, 1.0], name="suite a")


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan")]])
def test_a_calibration_needs_two_finite_scores(scores: list[float]) -> None:
    with pytest.raises(CodealignError, match="two or more finite scores"):
        calibrate(scores)
