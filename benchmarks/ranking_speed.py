"""Speed and memory of B4's selection and of CodeDPO's sweeps, as paired ratios in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.ranking_speed [--rounds 5] [--out FILE]

B4: `b4_scores`, from a bool matrix to the best programs with all ties, against a direct implementation of the
definition (`direct_b4` below: for every consensus set all rows are compared again and the cells are counted
where they lie), with the same scores; and the registered ranker, which has weights, settings and a record of
them besides. Both run in turns; CPU time of this process and
all its threads (idle ones of the linear algebra spin, hence the variable). A ratio is the median over rounds
of the ratio within a round; on a busy machine read ratios, not times.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaln

from benchmarks.measuring import Bar, machine, print_machine, print_table, write_json
from codegen_eval.ranking.b4 import b4_scores
from codegen_eval.ranking.codedpo import codedpo_scores
from codegen_eval.ranking.common import RANKERS, best_places, make_view
from codegen_eval.ranking.simulation import Setting, trials

HYPER = (10.0, 10.0)


def direct_b4(matrix: np.ndarray, alpha_xy: float, beta_0: float) -> list[tuple[float, list[int]]]:
    """(score, programs) of every consensus set, best first, as the definition reads."""
    codes, tests = matrix.shape
    rows = matrix.tolist()
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in range(codes):
        groups.setdefault(tuple(rows[i]), []).append(i)
    found = []
    for row in groups:
        x = np.array([tuple(rows[j]) == row for j in range(codes)])
        y = np.array(row, dtype=bool)
        right, wrong = matrix[~x][:, y], matrix[~x][:, ~y]
        score = (
            betaln(y.sum() + alpha_xy, tests - y.sum() + 1)
            + betaln(x.sum() + alpha_xy, codes - x.sum() + 1)
            + betaln(right.sum() + 1, right.size - right.sum() + 1)
            + betaln(wrong.sum() + 1, wrong.size - wrong.sum() + beta_0)
        )
        found.append((float(score), [int(i) for i in np.flatnonzero(x)]))
    return sorted(found, key=lambda entry: -entry[0])


def seconds(work: Callable[[], Any], least: float = 0.05) -> float:
    """CPU seconds of one run: the mean of as many as take `least` seconds."""
    count, begin = 0, time.process_time()
    while True:
        work()
        count += 1
        spent = time.process_time() - begin
        if spent >= least:
            return spent / count


def peak(work: Callable[[], Any]) -> float:
    """Most MiB allocated at once by one run."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def matrices() -> dict[str, np.ndarray]:
    """Simulated and random matrices (all rows distinct) of both sizes."""
    rng = np.random.default_rng(0)
    found = {}
    for size in (100, 1000):
        simulated = next(trials(Setting(codes=size, tests=size), 1, rng)).passed
        found[f"{size} x {size} simulated"] = simulated
        found[f"{size} x {size} random"] = rng.random((size, size)) < 0.5
    return found


def compare(name: str, matrix: np.ndarray, rounds: int) -> dict[str, Any]:
    """Times of both ways, in turns, and whether they choose the same programs."""

    def ours() -> list[int]:
        return best_places(b4_scores(matrix, alpha_xy=HYPER[0], beta_0=HYPER[1]))

    def registered() -> list[int]:
        return list(RANKERS.get("b4")(make_view(matrix, alpha_xy=HYPER[0], beta_0=HYPER[1])).best)

    plain = matrix.astype(np.uint8)
    best = direct_b4(plain, *HYPER)[0]
    same = set(best[1]) <= set(ours()) and ours() == registered()
    fast, slow, ranker = [], [], []
    for _ in range(rounds):
        fast.append(seconds(ours))
        slow.append(seconds(lambda: direct_b4(plain, *HYPER), 0.0))
        fast[-1] = (fast[-1] + seconds(ours)) / 2  # before and after: drift of the machine hits both sides
        ranker.append(seconds(registered))
    return {
        "name": name,
        "same": same,
        "direct": slow,
        "ours": fast,
        "registered": ranker,
        "ratio": statistics.median(s / f for s, f in zip(slow, fast, strict=True)),
        "mib": peak(ours),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    facts = machine()
    print_machine(facts)
    found = [compare(name, matrix, given.rounds) for name, matrix in matrices().items()]
    heads = ["matrix", "direct, ms", "ours, ms", "the ranker, ms", "ratio", "peak MiB", "same choice"]
    body = [
        [
            of["name"],
            f"{1e3 * statistics.median(of['direct']):.1f}",
            f"{1e3 * statistics.median(of['ours']):.3f}",
            f"{1e3 * statistics.median(of['registered']):.3f}",
            f"{of['ratio']:.0f}",
            f"{of['mib']:.1f}",
            "yes" if of["same"] else "NO",
        ]
        for of in found
    ]
    print_table("B4: from the matrix to the best programs", heads, body)
    large = matrices()["1000 x 1000 random"]
    sweeps = [seconds(lambda: codedpo_scores(large, sweeps=10)) for _ in range(given.rounds)]
    bars = [
        Bar("direct / ours, 100 x 100, least of both", min(of["ratio"] for of in found[:2]), least=100),
        Bar("direct / ours, 1000 x 1000, least of both", min(of["ratio"] for of in found[2:]), least=1000),
        Bar("CodeDPO, 10 sweeps, 1000 x 1000, median CPU ms", 1e3 * statistics.median(sweeps), most=50),
        Bar("CodeDPO, peak MiB", peak(lambda: codedpo_scores(large, sweeps=10)), most=64),
    ]
    print_table("Bars", ["what", "value", "bar", ""], [bar.row() for bar in bars])
    write_json(given.out, {"machine": facts, "b4": found, "codedpo_seconds": sweeps})


if __name__ == "__main__":
    main()
