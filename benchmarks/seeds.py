"""The gain of one round on MiniPy, for several seeds: the table in docs/tiny-coder.md.

    python benchmarks/seeds.py --seeds 0 1 2 --out runs/seeds

A seed decides what is drawn: training problems, programs, tests, pairs, the order of training, and the
programs of both evaluations. The model that it starts from is always the shipped one. Stopped anywhere, the
same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from alignment.quickstart import QuickstartConfig, run
from alignment.resources import recipe_path
from codegen_eval.benchmarks.base import load
from codegen_eval.comparison import compare
from codegen_eval.config import load_config
from codegen_eval.pairs.audit import own_test_quality, pair_quality
from codegen_eval.runs import read_jsonl
from sandbox import Sandbox

SOURCES = {"own + examples": ["own", "examples"], "own": ["own"]}
HEADER = [
    "tests",
    "seed",
    "own tests right",
    "pairs",
    "both right",
    "pass@1",
    "difference",
    "pass@10",
    "slow share",
]


def one(out: Path, sources: list[str], seed: int, overrides: dict[str, Any]) -> list[str]:
    """Runs one chain and returns its row of the table, without the name of its sources."""
    values = {"out": out, "sources": sources, "seed": seed, **overrides}
    config = load_config(recipe_path("tiny-coder/quickstart.yaml"), QuickstartConfig, values)
    run(config)
    rows = compare(*(_results(out / name) for name in ("before-eval", "after-eval")))
    problems = load(config.benchmark, None, config.data_split)
    pairs = list(read_jsonl(out / "pairs/pairs.jsonl"))
    with Sandbox() as box:
        tests = own_test_quality(read_jsonl(out / "matrices/matrices.jsonl"), problems, box)
        quality = pair_quality(pairs, problems, box)
    efficiency = sum(pair["kind"] == "efficiency" for pair in pairs)
    gain = rows["pass@1"]
    return [
        str(seed),
        f"{tests['own']['right']:.2f}",
        f"{len(pairs) - efficiency} + {efficiency}",
        f"{quality['correctness']['both']:.2f}",
        _arrow(rows["pass@1"]),
        f"{gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
        _arrow(rows["pass@10"]),
        _arrow(rows["slow_share"]) if rows.get("slow_share") else "",
    ]


def _results(folder: Path) -> dict[str, Any]:
    import json

    return dict(json.loads((folder / "results.json").read_text()))


def _arrow(row: Any) -> str:
    return f"{row['before']:.3f} -> {row['after']:.3f}"


def main() -> int:
    """Runs all chains and prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--eval-split", default="test", help="tune while settings are chosen")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/tiny-coder/dpo.yaml"))
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    lines = [" | ".join(HEADER), " | ".join("---" for _ in HEADER)]
    for name in arguments.sources:
        for seed in arguments.seeds:
            folder = arguments.out / f"{name.replace(' + ', '-')}-{seed}"
            overrides = {"eval_split": arguments.eval_split, "recipe": arguments.recipe}
            lines.append(" | ".join([name, *one(folder, SOURCES[name], seed, overrides)]))
    table = "".join(f"| {line} |\n" for line in lines)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
