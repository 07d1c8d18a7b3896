"""Gold reward over n for single members and ensembles, with intervals over prompts and fitted laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from alignment.bon import Ties, checked_n, kl_bon, rank_pool
from alignment.rewards.aggregation import FloatArray, Objective, aggregate, checked_scores
from alignment.scaling_laws import Law, fit_law
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.metrics.statistics import bootstrap_mean

Selector = Literal["single", "mean", "wco", "uwo"]
SELECTORS: tuple[Selector, ...] = get_args(Selector)


@dataclass(frozen=True, slots=True)
class Settings:
    """How curves are made.

    Attributes:
        ns: Values of n; None takes the powers of two and the pool's size.
        ties: Rule among equal proxy scores.
        lam: UWO's lambda.
        ddof: Of UWO's variance.
        resamples: Bootstrap samples over prompts; 0 for no intervals.
        seed: Of the bootstrap.
    """

    ns: tuple[int, ...] | None = None
    ties: Ties = "average"
    lam: float = 0.5
    ddof: int = 0
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Curve:
    """Best-of-n by one selector; all arrays have shape (len(ns),).

    Attributes:
        selector: "single" is the mean over members that each select alone.
        ns: The values of n.
        kl: KL from the sampling policy in nats.
        gold: Mean over prompts of the expected gold score.
        proxy: Of the score that selected.
        low: Lower end of the 95 % interval of gold over prompts; None without intervals.
        high: Upper end.
        by_prompt: Expected gold score a prompt, shape (prompts, len(ns)).
        law: R(d) = d (a - b d) fitted to gold minus gold at n = 1; None for fewer than two n above 1.
    """

    selector: Selector
    ns: tuple[int, ...]
    kl: FloatArray
    gold: FloatArray
    proxy: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    by_prompt: FloatArray
    law: Law | None

    @property
    def peak(self) -> int:
        """The n with the largest gold score, the smallest of equals."""
        return self.ns[int(self.gold.argmax())]

    @property
    def drop(self) -> float:
        """How far gold falls from its peak to the largest n."""
        return float(self.gold.max() - self.gold[-1])

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data, without those of single prompts."""
        law = self.law
        return {
            "selector": self.selector,
            "n": list(self.ns),
            "kl": self.kl.tolist(),
            "gold": self.gold.tolist(),
            "proxy": self.proxy.tolist(),
            "low": None if self.low is None else self.low.tolist(),
            "high": None if self.high is None else self.high.tolist(),
            "peak_n": self.peak,
            "drop": self.drop,
            "law": None
            if law is None
            else {"a": law.a, "b": law.b, "residual": law.residual, "peak": law.peak},
        }


def powers_of_two(pool: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the pool's size."""
    return tuple(sorted({*(2**i for i in range(pool.bit_length())), pool}))


def curve(
    scores: Sequence[FloatArray],
    gold: Sequence[FloatArray],
    selector: Selector,
    settings: Settings = Settings(),
) -> Curve:
    """One curve from a scored pool.

    Args:
        scores: A prompt's member scores on a common scale, each of shape (its samples, members).
        gold: A prompt's gold scores, each of shape (its samples,).
        selector: "single", "mean", "wco" or "uwo".
        settings: See there.

    Raises:
        CodealignError: For an unknown selector, an n above the smallest pool, no prompts, or missing scores.
    """
    if selector not in SELECTORS:
        raise unknown("selector", selector, SELECTORS)
    if not len(scores) or len(scores) != len(gold):
        raise CodealignError(f"{len(scores)} prompts with scores do not fit {len(gold)} with gold scores")
    smallest = min(map(len, gold))
    ns = powers_of_two(smallest) if settings.ns is None else tuple(settings.ns)
    if not ns:
        raise CodealignError("at least one n is needed")
    for n in ns:
        checked_n(n, smallest)
    ns = tuple(sorted(set(ns)))
    golds, proxies = np.empty((len(gold), len(ns))), np.empty((len(gold), len(ns)))
    for size in sorted({len(row) for row in gold}):
        rows = [i for i, row in enumerate(gold) if len(row) == size]
        block = checked_scores(np.stack([scores[i] for i in rows]))
        golds[rows], proxies[rows] = _selected(
            block, np.stack([gold[i] for i in rows]), ns, selector, settings
        )
    low, high = _intervals(golds, settings)
    mean, kl = golds.mean(axis=0), kl_bon(ns)
    law = fit_law(np.sqrt(kl), mean - mean[0]) if ns[0] == 1 and len(ns) > 2 else None
    return Curve(selector, ns, kl, mean, proxies.mean(axis=0), low, high, golds, law)


def _selected(
    scores: FloatArray, gold: FloatArray, ns: Sequence[int], selector: Selector, settings: Settings
) -> tuple[FloatArray, FloatArray]:
    """Gold and proxy by prompt for pools of one size; scores have shape (prompts, samples, members)."""
    if selector == "single":
        alone = [
            rank_pool(scores[..., j], gold, ties=settings.ties).curve(ns) for j in range(scores.shape[-1])
        ]
        return np.mean([g for g, _ in alone], axis=0), np.mean([p for _, p in alone], axis=0)
    objective: Objective = selector
    proxy = aggregate(scores, objective, lam=settings.lam, ddof=settings.ddof).rewards
    return rank_pool(proxy, gold, ties=settings.ties).curve(ns)


def _intervals(values: FloatArray, settings: Settings) -> tuple[FloatArray | None, FloatArray | None]:
    """95 % intervals of the mean over prompts; one prompt has none."""
    if not settings.resamples or len(values) < 2:
        return None, None
    found = [
        bootstrap_mean(column, resamples=settings.resamples, seed=settings.seed, method="percentile")
        for column in values.T
    ]
    return np.array([i.low for i in found]), np.array([i.high for i in found])
