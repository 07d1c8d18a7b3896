"""Which loss trains best on MiniPy, from the same self-made pairs.

    python -m benchmarks.losses_minipy --seeds 0 1 2 --out runs/losses [--data runs/rankers]

A seed's programs, tests and matrices are drawn once, with the quickstart's settings (or taken from a folder
of `rankers_minipy`, whose seeds draw the same). B4's posterior makes one set of pairs of them, each with its
probability of being right; every way trains the shipped model on that set with its recipe in
`recipes/tiny-coder` (KTO on the same texts, each with a label and that probability as its weight), for the
same number of steps; hidden tests of other problems say what it brought. Only the DPO recipe was tuned, on
another split: a way that lost here may win with a rate of its own.

Every step is a run directory: stopped anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alignment.resources import recipe_path
from alignment.train_command import launch
from benchmarks.ranker_table import UNTRAINED, Audited, Way, table
from benchmarks.rankers_minipy import Seed, right_shares
from codegen_eval.benchmarks.base import load
from codegen_eval.commands import pairs, rank
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir


@dataclass(frozen=True, slots=True)
class Training:
    """A method of `codealign train`, its recipe, and the file of the pairs' folder that it reads."""

    method: str
    recipe: str
    file: str = "pairs.jsonl"


WAYS = {
    "DPO": Training("dpo", "dpo"),
    "cDPO, B4's confidence": Training("dpo", "cdpo"),
    "KTO, B4's weights": Training("kto", "kto", "kto.jsonl"),
    "SimPO": Training("dpo", "simpo"),
    "RPO": Training("dpo", "rpo"),
}


def made(seed: Seed) -> Path:
    """The pairs' folder: B4's posterior pairs of the seed's matrices, and the same texts as KTO rows."""
    config, out = seed.config, seed.config.out
    rank.run(
        rank.RankConfig(out=out / "rankings", matrices=seed.matrices, ranker="posterior", seed=config.seed)
    )
    asked = pairs.PairsConfig(
        out=out / "pairs",
        matrices=seed.matrices,
        rankings=out / "rankings/rankings.jsonl",
        benchmark=config.benchmark,
        split=config.data_split,
        builder="posterior",
        pairs_per_problem=config.pairs_per_problem,
        efficiency_share=seed.efficiency_share,
        kto=True,
        seed=config.seed,
        workers=config.workers,
    )
    return pairs.run(asked).path


def trained(seed: Seed, name: str, way: Training, folder: Path) -> str:
    """Trains in a process of its own; the model's folder."""
    out = seed.config.out / way.recipe / "train"
    if not RunDir(out).finished:
        overrides = ["--model_name_or_path", seed.model, "--dataset_name", str(folder / way.file)]
        overrides += ["--output_dir", str(out), "--seed", str(seed.config.seed)]
        if status := launch(way.method, recipe_path(f"tiny-coder/{way.recipe}.yaml"), overrides):
            raise CodealignError(f"training by {name!r} ended with status {status}; see its message above")
    return str(out / "model")


def drawn(given: argparse.Namespace, number: int) -> Seed:
    """A seed with its matrices: drawn here, or those of a folder of `rankers_minipy`."""
    seed = Seed(given.out, number, given)
    if given.data is None:
        seed.shared()
        return seed
    theirs = Seed(given.data, number, given)
    if not RunDir(theirs.matrices.parent).finished:
        raise CodealignError(
            f"{theirs.matrices} is not finished; let benchmarks.rankers_minipy draw seed {number} first, or "
            "leave --data out"
        )
    seed.matrices = theirs.matrices
    return seed


def measure(given: argparse.Namespace) -> dict[str, Way]:
    """Runs, or takes up, everything, and gives the untrained model and each way with all its seeds."""
    wanted: Mapping[str, Training] = {name: WAYS[name] for name in given.ways}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (UNTRAINED, *wanted)}
    audits: list[list[Audited]] = []
    asked = 0
    for number in given.seeds:
        seed = drawn(given, number)
        asked = seed.config.problems
        problems = {p.task_id: p for p in load(seed.config.benchmark, None, seed.config.data_split)}
        found[UNTRAINED].append(right_shares(seed.evaluated(seed.config.out, "before", seed.model)))
        folder = made(seed)
        audits.append(seed.audited("pairs", folder / "pairs.jsonl", problems))
        for name, way in wanted.items():
            begun = time.monotonic()
            model = trained(seed, name, way, folder)
            results = seed.evaluated(seed.config.out / way.recipe, "after", model)
            found[name].append(right_shares(results))
            print(f"seed {number}, {name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    order = sorted(found[UNTRAINED][0])
    return {
        name: Way(
            [] if name == UNTRAINED else audits, np.array([[seed[t] for t in order] for seed in of]), asked
        )
        for name, of in found.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all seeds and ways and prints the table as Markdown; it is OUT/table.md as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--data", type=Path, help="a folder of rankers_minipy: take its matrices")
    parser.add_argument("--eval-split", default="test", help="tune while settings are chosen")
    for name in ("problems", "programs", "tests", "eval-samples"):
        parser.add_argument(f"--{name}", type=int, help="instead of the quickstart's")
    parser.add_argument("--workers", type=int, help="processes for sampling and for the sandbox")
    parser.add_argument("--out", type=Path, default=Path("runs/losses"))
    parser.set_defaults(recipe=recipe_path("tiny-coder/dpo.yaml"), efficiency_share=0.0)
    given = parser.parse_args(argv)
    text = table(measure(given), "loss", "DPO")
    (given.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
