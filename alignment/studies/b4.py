"""B4's simulation (Chen et al. 2024, arXiv 2409.08692): which ranker finds the right programs, and whether
B4's posterior is calibrated.

    codealign reproduce b4 --out runs/b4 [--page docs/b4.md]

The authors' generative model and hyper-parameters (10, 10); a trial's success is the share of right programs
among the best-ranked ones, ties merged. Where the authors' script prints run times in place of the accuracy,
this prints the accuracy. `expected` are the figures that the authors' strategies give on the authors' model.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alignment.studies.b4_calibration import calibration_rows
from alignment.studies.b4_page import Figure, plot_reliability, plot_settings, tables, write_page
from codegen_eval.config import Config
from codegen_eval.progress import track
from codegen_eval.ranking.common import RANKERS, View, make_view
from codegen_eval.ranking.simulation import Setting, trials
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "B4's simulation: six rankers, 17 settings, and a reliability curve."
CHUNK = 1000
NAMES = ("random", "maxpass", "mbr_exec", "codet", "b4", "codedpo")
DEFAULT = "default"
SETTINGS: dict[str, tuple[Setting, float, float]] = {
    DEFAULT: (Setting(), 10, 10),
    "theta_x=0.1": (Setting(theta_x=0.1), 10, 10),
    "theta_x=0.6": (Setting(theta_x=0.6), 10, 10),
    "theta_y=0.1": (Setting(theta_y=0.1), 10, 10),
    "theta_y=0.5": (Setting(theta_y=0.5), 10, 10),
    "theta_0=0.01": (Setting(theta_0=0.01), 10, 10),
    "theta_0=0.3": (Setting(theta_0=0.3), 10, 10),
    "theta_1=0.1": (Setting(theta_1=0.1), 10, 10),
    "theta_1=0.8": (Setting(theta_1=0.8), 10, 10),
    "N=5": (Setting(codes=5), 10, 10),
    "M=5": (Setting(tests=5), 10, 10),
    "M=100": (Setting(tests=100), 10, 10),
    "beta_0=1": (Setting(), 10, 1),
    "beta_0=1e+06": (Setting(), 10, 1e6),
    "alpha_xy=1000": (Setting(), 1000, 10),
    "hard: few right programs and tests": (
        Setting(theta_x=0.1, theta_y=0.1, codes=20, tests=50),
        10,
        10,
    ),
    "misleading: wrong tests often passed": (
        Setting(theta_x=0.2, theta_y=0.2, theta_0=0.45, theta_1=0.5, codes=20, tests=50),
        10,
        10,
    ),
}


class B4Config(Config):
    """Settings of `codealign reproduce b4`."""

    out: Path
    """Run directory; results.json, tables.md and the figures appear in it."""
    trials: int = Field(default=20_000, ge=1)
    """Trials of the default setting."""
    setting_trials: int = Field(default=3_000, ge=1)
    """Trials of each other setting."""
    calibration_trials: int = Field(default=20_000, ge=100)
    """Trials of each reliability curve; up to 2,000 others fit the hyper-parameters."""
    seed: int = Field(default=0, ge=0)
    """Seed of all trials."""
    page: Path | None = None
    """A Markdown page whose text between the marks becomes the tables; figures go to img/ beside it."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""


def success(name: str, view: View, right: np.ndarray) -> float:
    """Share of right programs among those that the ranker holds best; for `random` all of them tie."""
    if name == "random":
        return float(right.mean())
    return float(right[list(RANKERS.get(name)(view).best)].mean())


def _chunks(config: B4Config) -> list[tuple[str, int, int]]:
    """(setting, number of the chunk, trials) of all parts."""
    found = []
    for name in SETTINGS:
        count = config.trials if name == DEFAULT else config.setting_trials
        found += [(name, i, min(CHUNK, count - i * CHUNK)) for i in range(math.ceil(count / CHUNK))]
    return found


def run_chunk(name: str, number: int, count: int, seed: int) -> dict[str, Any]:
    """Sums and sums of squares of the successes of `count` trials, by ranker."""
    setting, alpha_xy, beta_0 = SETTINGS[name]
    rng = np.random.default_rng([seed, list(SETTINGS).index(name), number])
    found: dict[str, list[float]] = defaultdict(list)
    for trial in trials(setting, count, rng):
        view = make_view(trial.passed, alpha_xy=alpha_xy, beta_0=beta_0)
        for ranker in NAMES:
            found[ranker].append(success(ranker, view, trial.right))
    return {
        "setting": name,
        "trials": count,
        "sum": {ranker: float(np.sum(values)) for ranker, values in found.items()},
        "squares": {ranker: float(np.square(values).sum()) for ranker, values in found.items()},
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each setting its trials, and for each ranker the mean success and its standard error."""
    found: dict[str, dict[str, Any]] = {}
    for name in SETTINGS:
        of = [row for row in rows if row["setting"] == name]
        n = sum(row["trials"] for row in of)
        found[name] = {"trials": n}
        for ranker in NAMES:
            mean = sum(row["sum"][ranker] for row in of) / n
            square = sum(row["squares"][ranker] for row in of) / n
            found[name][ranker] = {
                "success": mean,
                "error": math.sqrt(max(square - mean**2, 0.0) / n),
            }
    return found


def run(config: B4Config) -> RunDir:
    """Runs all settings and the calibration, and writes results.json, tables.md and two figures.

    Raises:
        CodealignError: matplotlib is missing, or the page lacks its marks.
    """
    run_dir = RunDir.open(config.out, "reproduce-b4", config.identity(), overwrite=config.overwrite)
    chunks = _chunks(config)

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for part in track(pending, len(pending), "simulating"):
            yield part, [run_chunk(*chunks[part], config.seed)]

    def calibrate(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        yield 0, calibration_rows(config.calibration_trials, config.seed)

    path = run_dir.build("settings", len(chunks), produce)
    curves = list(read_jsonl(run_dir.build("calibration", 1, calibrate)))
    results = summarise(list(read_jsonl(path)))
    run_dir.write_json(
        "results.json",
        {
            "settings": results,
            "parameters": {name: asdict(setting) for name, (setting, *_) in SETTINGS.items()},
            "calibration": curves,
        },
    )
    text = tables(results, curves)
    run_dir.write_text("tables.md", text)
    figures: dict[str, Figure] = {
        "b4_settings.svg": lambda path: plot_settings(results, path),
        "b4_reliability.svg": lambda path: plot_reliability(curves, path),
    }
    for name, draw in figures.items():
        draw(run_dir.path / name)
        if config.page is not None:
            draw(config.page.parent / "img" / name)
    if config.page is not None:
        write_page(config.page, text)
    run_dir.finish(trials=results[DEFAULT]["trials"], b4=results[DEFAULT]["b4"]["success"])
    return run_dir


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    run_dir = run(B4Config.parse(argv, prog="codealign reproduce b4", description=DESCRIPTION))
    print((run_dir.path / "tables.md").read_text())
    print(f"results: {run_dir.path / 'results.json'}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
