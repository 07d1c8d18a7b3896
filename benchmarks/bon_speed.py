"""How long best-of-n takes at the paper's size: 1,000 prompts, 12,600 samples each, 20 values of n.

    python -m benchmarks.bon_speed

Sorting is the price of a new proxy; any further n of the same pool is a product of matrices. For comparison
a pass over all samples in plain Python, per n, is measured on a small part and scaled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

from alignment.bon import rank_pool, rank_weights
from alignment.bon_curves import Settings, curve

NS = (
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 4096, 5120, 6144, 7168, 8192, 10_000, 12_500,
)  # fmt: skip


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def plain_seconds(proxy: np.ndarray, gold: np.ndarray, prompts: int) -> float:
    """CPU seconds that a loop over samples would take for all n and prompts, from one prompt and two n."""

    def one() -> None:
        order = sorted(range(len(proxy)), key=proxy.tolist().__getitem__)
        for n in NS[:2]:
            weights = rank_weights(len(proxy), n).tolist()
            sum(w * gold[i] for w, i in zip(weights, order, strict=True))

    return measured(one)[1] * prompts * len(NS) / 2


def main() -> int:
    """Prints the medians over rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=12_600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    gold = rng.normal(size=(options.prompts, options.samples))
    proxy = gold + rng.normal(size=gold.shape)
    rates = np.round(proxy, 1)  # as coarse as pass rates: everything ties
    ns = [n for n in NS if n <= options.samples]
    ranked = rank_pool(proxy, gold)
    ways: dict[str, Callable[[], object]] = {
        "sort and all n": lambda: rank_pool(proxy, gold).curve(ns),
        "sort and all n, ties everywhere": lambda: rank_pool(rates, gold).curve(ns),
        "all n of a sorted pool": lambda: ranked.curve(ns),
        "the whole curve with 2,000 bootstrap samples": lambda: curve(
            list(proxy[..., None]), list(gold), "single", Settings(ns=tuple(ns))
        ),
    }
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; medians of {options.rounds} rounds")
    for name, work in ways.items():
        times = [measured(work) for _ in range(options.rounds)]
        wall, cpu = (statistics.median(side) for side in zip(*times, strict=True))
        print(f"{name:<46} {wall:6.2f} s wall {cpu:6.2f} s CPU")
    slow = plain_seconds(proxy[0], gold[0], options.prompts)
    print(f"{'a loop in plain Python, scaled from one prompt':<46} {slow:15.0f} s CPU")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
