"""How many executions adaptive execution saves, and how often its choice is that of the full matrix.

    python -m benchmarks.adaptive_execution [--trials 2000] [--out FILE]

On B4's simulation, where every cell is known. It counts and times nothing, so a busy machine does not matter.
`equal` is the share of trials whose best programs, with all ties, are those of the full matrix; `right` the
share of right programs among the best ones, with and without adaptive execution.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measuring import print_table, write_json
from codegen_eval.ranking.adaptive import AdaptiveOptions, best_codes, replay
from codegen_eval.ranking.common import RANKERS, make_view
from codegen_eval.ranking.simulation import Setting, trials

SETTINGS = {
    "10 x 30": Setting(),
    "30 x 60": Setting(codes=30, tests=60),
    "100 x 100": Setting(codes=100, tests=100),
    "20 x 50, misleading": Setting(0.2, 0.2, 0.45, 0.5, 20, 50),
}
WAYS = {
    "maxpass": AdaptiveOptions("maxpass"),
    "b4, least 1e-2": AdaptiveOptions("b4", least=1e-2),
    "b4, least 1e-4": AdaptiveOptions("b4", least=1e-4),
    "b4, least 1e-6": AdaptiveOptions("b4", least=1e-6),
    "b4, least 1e-6, warm-up 16": AdaptiveOptions("b4", least=1e-6, warm_up=16),
}


def measure(setting: Setting, options: AdaptiveOptions, count: int, seed: int) -> dict[str, float]:
    """Means over `count` trials: share of cells saved, equal choices, right programs among the best."""
    saved, equal, right, right_full = [], [], [], []
    for trial in trials(setting, count, np.random.default_rng(seed)):
        full = RANKERS.get(options.rule)(make_view(trial.passed)).best
        progress = replay(trial.passed, options)
        best = best_codes(progress, options)
        saved.append(1 - progress.executions / trial.passed.size)
        equal.append(best == full)
        right.append(trial.right[list(best)].mean())
        right_full.append(trial.right[list(full)].mean())
    found = {"saved": saved, "equal": equal, "right": right, "right_full": right_full}
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = {
        f"{name} / {way}": measure(setting, options, given.trials, given.seed)
        for name, setting in SETTINGS.items()
        for way, options in WAYS.items()
    }
    heads = ["matrices", "rule", "executions saved", "equal choice", "right", "right, full matrix"]
    body = [
        [
            *key.split(" / "),
            f"{of['saved']:.1%}",
            f"{of['equal']:.2%}",
            f"{of['right']:.3f}",
            f"{of['right_full']:.3f}",
        ]
        for key, of in found.items()
    ]
    print_table(f"Adaptive execution, {given.trials} trials", heads, body)
    write_json(given.out, {"trials": given.trials, "seed": given.seed, "results": found})


if __name__ == "__main__":
    main()
