"""Curves: selectors by hand, pools of unequal size, intervals over prompts."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from alignment.bon import rank_pool
from alignment.bon_curves import SELECTORS, Settings, curve, powers_of_two
from alignment.bon_plot import Panel, curves_svg
from codegen_eval.errors import CodealignError


def pool(prompts: int = 5, size: int = 32, members: int = 3, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=(prompts, size))
    scores = gold[..., None] + rng.normal(size=(prompts, size, members))
    return list(scores), list(gold)


def test_single_is_the_mean_over_members_that_select_alone() -> None:
    scores, gold = pool()
    alone = [
        np.mean([rank_pool(s[:, j], g).curve([4])[0][0, 0] for s, g in zip(scores, gold, strict=True)])
        for j in range(3)
    ]
    assert curve(scores, gold, "single", Settings(ns=(4,))).gold[0] == pytest.approx(np.mean(alone))


def test_the_ensemble_sorts_the_gold_scores_with_the_samples() -> None:
    # The reference repository re-sorted everything but gold, so every ensemble had the first member's curve.
    scores = [np.array([[3.0, 0.0], [2.0, 2.0], [0.0, 3.0]])]
    gold = [np.array([-5.0, 7.0, 1.0])]
    assert curve(scores, gold, "wco", Settings(ns=(3,))).gold.tolist() == [7.0]
    assert curve(scores, gold, "single", Settings(ns=(3,))).gold.tolist() == [-2.0]


def test_one_member_is_an_ensemble_of_itself() -> None:
    scores, gold = pool(members=1)
    curves = [curve(scores, gold, name).gold for name in SELECTORS]
    for other in curves[1:]:
        np.testing.assert_allclose(other, curves[0])


def test_prompts_of_unequal_size_keep_their_place() -> None:
    scores, gold = pool(prompts=4)
    scores[1], gold[1] = scores[1][:9], gold[1][:9]
    found = curve(scores, gold, "mean", Settings(ns=(1, 9)))
    for i in range(4):
        expected = rank_pool(scores[i].mean(axis=1), gold[i]).curve([1, 9])[0][0]
        np.testing.assert_allclose(found.by_prompt[i], expected)
    with pytest.raises(CodealignError, match="the pool has 9"):
        curve(scores, gold, "mean", Settings(ns=(10,)))


def test_intervals_are_over_prompts_and_hold_the_mean() -> None:
    found = curve(*pool(prompts=30), "mean", Settings(ns=(1, 8)))
    assert found.low is not None and found.high is not None
    assert (found.low < found.gold).all() and (found.gold < found.high).all()
    error = found.by_prompt.std(axis=0, ddof=1) / 30**0.5
    np.testing.assert_allclose((found.high - found.low) / 2, 1.96 * error, rtol=0.15)
    again = curve(*pool(prompts=30), "mean", Settings(ns=(1, 8)))
    assert (again.low == found.low).all()


def test_one_prompt_has_no_interval() -> None:
    assert curve(*pool(prompts=1), "mean").low is None
    assert curve(*pool(), "mean", Settings(resamples=0)).low is None


def test_peak_and_drop_are_read_from_the_curve() -> None:
    proxy = np.arange(8.0)
    gold = np.array([0.0, 1, 2, 3, 4, 5, 6, -20])
    found = curve([proxy[:, None]], [gold], "single")
    assert found.ns == (1, 2, 4, 8)
    assert found.peak == found.ns[int(np.argmax(found.gold))] < 8
    assert found.drop == pytest.approx(found.gold.max() + 20)


def test_ns_are_sorted_and_counted_once() -> None:
    assert curve(*pool(), "mean", Settings(ns=(8, 1, 8))).ns == (1, 8)
    assert powers_of_two(20) == (1, 2, 4, 8, 16, 20)
    assert powers_of_two(1) == (1,)


def test_a_law_is_fitted_from_n_1_on() -> None:
    assert curve(*pool(), "mean", Settings(ns=(2, 4, 8))).law is None
    law = curve(*pool(prompts=40, size=256), "mean").law
    assert law is not None and law.a > 0.5 and law.residual < 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selector": "best"}, "unknown selector"),
        ({"scores": []}, "do not fit"),
        ({"settings": Settings(ns=())}, "at least one n"),
        ({"settings": Settings(ties="none")}, "unknown tie rule"),
        ({"settings": Settings(lam=-1.0), "selector": "uwo"}, "lambda"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], message: str) -> None:
    scores, gold = pool()
    arguments = {"scores": scores, "gold": gold, "selector": "mean", "settings": Settings()} | changes
    with pytest.raises(CodealignError, match=message):
        curve(**arguments)


def test_a_score_that_is_missing_is_an_error() -> None:
    scores, gold = pool()
    scores[3][5, 1] = np.nan
    with pytest.raises(CodealignError, match="member 1 has no finite score"):
        curve(scores, gold, "single")


def test_equal_curves_give_equal_pictures_that_stand_alone() -> None:
    pytest.importorskip("matplotlib")
    curves = [curve(*pool(), name) for name in SELECTORS]
    panels = [Panel("25 % <noise> & $x$", curves), Panel("no noise", curves[:1])]
    svg = curves_svg(panels)
    assert svg == curves_svg(panels)
    assert svg.startswith("<?xml") and "25 % &lt;noise&gt; &amp; $x$" in svg
    assert all(name in svg for name in ("single", "mean", "WCO", "UWO"))
    assert not re.search(r"(href|src)=\"http", svg)
