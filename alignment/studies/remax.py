"""`codealign reproduce remax`: ReMax (arXiv 2310.10505) against REINFORCE and PPO, and its gradient variance.

A miniature: 39 k parameters, sorted letters, minutes of one core. Departures from the paper: no language
model, no reward model; a reward with an offset by prompt stands for one. The table also has the rewards for
which the greedy baseline does not help.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from alignment.studies.figures import one_thread
from alignment.studies.remax_page import draw, tables
from alignment.studies.remax_runs import METHODS, Settings, train
from alignment.studies.remax_variance import measure
from alignment.studies.remax_world import fine_tuned
from codegen_eval.config import Config
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "ReMax in miniature: learning curves against REINFORCE and PPO, and gradient variance."
VARIANCE = "variance"


class RemaxConfig(Config):
    """Settings of `codealign reproduce remax`."""

    out: Path = Path("runs/remax-study")
    """Run directory; results.json, tables.md and remax_study.svg appear in it."""
    seeds: int = Field(default=5, ge=1)
    """Number of seeds."""
    first_seed: int = Field(default=0, ge=0)
    """The first one; the others follow."""
    steps: int = Field(default=80, ge=20)
    """Training steps."""
    batches: int = Field(default=24, ge=4)
    """Batches over which a gradient's variance is taken (half of them for the random network)."""
    figure: Path | None = None
    """Where the figure is written besides, as for a page."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    # Each seed is a file of its own: a run takes more seeds on.
    not_identity = frozenset({"out", "overwrite", "figure", "seeds"})


def run_part(method: str, seed: int, config: RemaxConfig) -> dict[str, Any]:
    """One training, or the variances of one seed; its time apart, equal arguments give equal numbers."""
    settings = Settings(steps=config.steps)
    if method != VARIANCE:
        return {"method": method, "seed": seed, **train(method, seed, settings)[1]}
    tuned, (trained, _), random = fine_tuned(seed), train("remax", seed, settings), fine_tuned(seed, 0)
    plain = ["bare acc"]
    found = {
        "after SFT": measure(tuned, ["acc + c(x)", "acc + 1", *plain], seed, config.batches),
        "after ReMax": measure(trained, ["acc + c(x)", *plain], seed, config.batches),
        "random network": measure(random, plain, seed, config.batches // 2),
    }
    spreads = {policy: {name: asdict(s) for name, s in each.items()} for policy, each in found.items()}
    return {"method": method, "seed": seed, "spreads": spreads}


def run(config: RemaxConfig) -> RunDir:
    """Trains all methods and measures all variances; a part that was made survives a kill.

    Raises:
        CodealignError: matplotlib is missing.
    """
    directory = RunDir.open(config.out, "reproduce remax", config.identity(), overwrite=config.overwrite)
    parts = (*METHODS, VARIANCE)
    rows: list[dict[str, Any]] = []
    with one_thread():
        for seed in range(config.first_seed, config.first_seed + config.seeds):

            def produce(pending: list[int], seed: int = seed) -> Iterator[tuple[int, list[dict[str, Any]]]]:
                for part in track(pending, len(pending), f"training and measuring, seed {seed}"):
                    yield part, [run_part(parts[part], seed, config)]

            rows += read_jsonl(directory.build(f"seed{seed}", len(parts), produce))
    directory.write_json("results.json", rows)
    directory.write_text("tables.md", tables(rows))
    draw(rows, directory.path / "remax_study.svg")
    if config.figure is not None:
        draw(rows, config.figure)
    directory.finish(seeds=config.seeds)
    return directory


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    directory = run(RemaxConfig.parse(argv, prog="codealign reproduce remax", description=DESCRIPTION))
    print((directory.path / "tables.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
