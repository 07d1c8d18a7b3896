"""Best-of-n: the estimator against enumeration, ties by rule, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.bon import TIES, kl_bon, rank_pool, rank_weights
from codegen_eval.errors import CodealignError

RULES = {
    "first": lambda best, gold: gold[best[0]],
    "last": lambda best, gold: gold[best[-1]],
    "average": lambda best, gold: float(np.mean([gold[i] for i in best])),
}


def enumerated(proxy: list[float], gold: list[float], n: int, ties: str) -> float:
    """The mean over all subsets of the gold of the subset's best by proxy."""
    values = []
    for subset in itertools.combinations(range(len(proxy)), n):
        top = max(proxy[i] for i in subset)
        values.append(RULES[ties]([i for i in subset if proxy[i] == top], gold))
    return float(np.mean(values))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), min_size=1, max_size=7), st.data())
def test_every_tie_rule_equals_enumeration(pool: list[tuple[int, int]], data: st.DataObject) -> None:
    proxy, gold = ([float(x) for x in side] for side in zip(*pool, strict=True))
    n = data.draw(st.integers(1, len(pool)))
    for ties in TIES:
        found, scores = rank_pool(proxy, gold, ties=ties).curve([n])
        assert found[0, 0] == pytest.approx(enumerated(proxy, gold, n, ties), abs=1e-12)
        assert scores[0, 0] == pytest.approx(enumerated(proxy, proxy, n, "last"), abs=1e-12)


def test_one_is_the_pools_mean_and_all_is_the_top_sample() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(3, 50)), rng.normal(size=(3, 50))
    found, _ = rank_pool(proxy, gold).curve([1, 50])
    np.testing.assert_allclose(found[:, 0], gold.mean(axis=1))
    np.testing.assert_allclose(found[:, 1], gold[np.arange(3), proxy.argmax(axis=1)])


def test_the_order_of_samples_matters_only_where_a_rule_says_so() -> None:
    rng = np.random.default_rng(1)
    proxy, gold = rng.integers(0, 4, size=40).astype(float), rng.normal(size=40)
    ns = [1, 3, 17, 40]
    plain = {ties: rank_pool(proxy, gold, ties=ties).curve(ns)[0] for ties in TIES}
    turned = {ties: rank_pool(proxy[::-1], gold[::-1], ties=ties).curve(ns)[0] for ties in TIES}
    np.testing.assert_allclose(turned["average"], plain["average"])
    np.testing.assert_allclose(turned["first"], plain["last"])
    np.testing.assert_allclose(turned["last"], plain["first"])
    assert not np.allclose(plain["first"], plain["last"])


def test_pass_rates_that_all_tie_select_at_random() -> None:
    gold = [0.0, 1.0, 1.0, 0.0]
    found, _ = rank_pool([1.0] * 4, gold).curve([1, 2, 4])
    assert found[0].tolist() == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize("pool", [1, 2, 7, 12_600])
def test_weights_sum_to_1(pool: int) -> None:
    for n in {1, 2, pool // 2, pool - 1, pool} - {0}:
        if n <= pool:
            assert rank_weights(pool, n).sum() == pytest.approx(1, abs=1e-11)


def test_weights_at_the_papers_size_equal_exact_arithmetic() -> None:
    pool, n = 12_600, 4096
    weights = rank_weights(pool, n)
    for rank in (4096, 9000, 12_000, 12_600):
        exact = math.comb(rank - 1, n - 1) / math.comb(pool, n) if rank != 4096 else 0.0
        assert weights[rank - 1] == pytest.approx(exact, rel=1e-10)
    assert not weights[: n - 1].any()


def test_the_pool_that_is_given_stays_as_it_is() -> None:
    proxy, gold = np.array([[2.0, 1.0, 1.0]]), np.array([[1.0, 2.0, 3.0]])
    for ties in TIES:
        rank_pool(proxy, gold, ties=ties)
    assert proxy.tolist() == [[2.0, 1.0, 1.0]] and gold.tolist() == [[1.0, 2.0, 3.0]]


def test_kl_is_0_for_one_sample_and_refuses_less() -> None:
    assert kl_bon([1, 2]).tolist() == pytest.approx([0.0, math.log(2) - 0.5])
    for bad in (0, -1, float("nan")):
        with pytest.raises(CodealignError, match="n must be 1 or more"):
            kl_bon(bad)


@pytest.mark.parametrize("n", [0, -1, 6])
def test_an_n_outside_the_pool_is_refused(n: int) -> None:
    with pytest.raises(CodealignError, match=rf"n={n} needs at least {n} samples a prompt, the pool has 5"):
        rank_pool([1.0] * 5, [1.0] * 5).curve([n])


def test_an_n_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(CodealignError, match=r"whole number, got 2\.0"):
        rank_weights(5, 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("proxy", "gold", "options", "message"),
    [
        ([1.0, 2.0], [1.0], {}, r"shape \(prompts, samples\)"),
        ([], [], {}, "shape"),
        ([[[1.0]]], [[[1.0]]], {}, "shape"),
        ([[1.0, 2.0], [1.0, float("nan")]], [[0.0] * 2] * 2, {}, "proxy score of prompt 1, sample 1 is nan"),
        ([1.0, 2.0], [float("inf"), 0.0], {}, "gold score of prompt 0, sample 0 is inf"),
        ([1.0], [1.0], {"ties": "mean"}, "unknown tie rule 'mean'"),
    ],
)
def test_pools_that_mean_nothing_are_refused(
    proxy: Any, gold: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CodealignError, match=message):
        rank_pool(proxy, gold, **options)
