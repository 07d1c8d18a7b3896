"""Step pairs from tree search against pairs of whole answers on MiniPy, at equal sampled tokens.

    python -m benchmarks.mcts_minipy --seeds 0 1 2 --out runs/mcts-minipy

tiny-coder writes programs for training problems; their tests, in the sandbox, say what an answer is worth.
One arm searches (statement blocks as steps) and trains on step pairs, the other samples whole programs, as
many tokens in each round as the trees took on average, and trains on right against wrong; both with the same
recipe for the same number of updates. The hidden tests of the test split say what it brought. Every step is a
run directory: stopped anywhere, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment.mcts_dpo import MctsDpoConfig
from alignment.mcts_dpo import run as run_job
from alignment.quickstart import Chain, QuickstartConfig
from alignment.resources import model_path, recipe_path
from codegen_eval.commands import eval as eval_command
from codegen_eval.comparison import compare
from codegen_eval.config import load_config

ARMS = ("steps", "answers")


def job(given: argparse.Namespace, out: Path, arm: str, seed: int, tokens: int | None) -> MctsDpoConfig:
    """The rounds of one arm."""
    searching = arm == "steps"
    values: dict[str, Any] = {"out": out, "seed": seed, "rounds": given.rounds, "workers": given.workers}
    values |= {"model": str(model_path("tiny-coder")), "recipe": recipe_path("tiny-coder/step_dpo.yaml")}
    if searching:
        values["prompts"] = given.prompts
    else:
        values |= {"prompts": None, "tokens": tokens, "search": {}}
        values["pairs"] = {"level": "answers", "answers": given.answers}
    return load_config(recipe_path("tiny-coder/mcts_dpo.yaml"), MctsDpoConfig, values)


def evaluated(given: argparse.Namespace, out: Path, name: str, model: str, seed: int) -> dict[str, Any]:
    """Draws programs of a model for the evaluation split and scores them; results.json."""
    values = {"out": out, "seed": seed, "eval_samples": given.eval_samples, "workers": given.workers}
    config = load_config(recipe_path("tiny-coder/quickstart.yaml"), QuickstartConfig, values)
    chain = Chain(config)
    chain.steps = 2
    samples = chain.draw(
        f"{name}-samples", f"{out.name}: programs", model, given.eval_split, programs=given.eval_samples
    )
    scored = eval_command.EvalConfig(
        out=out / f"{name}-eval",
        benchmark=config.benchmark,
        split=given.eval_split,
        samples=samples.path / "programs.jsonl",
        efficiency=False,
        workers=given.workers,
    )
    folder = chain.step(f"{out.name}: hidden tests", lambda: eval_command.run(scored)).path
    return dict(json.loads((folder / "results.json").read_text()))


def one_seed(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Both arms of one seed and the untrained model: pass@1, differences, pairs, tokens."""
    out = given.out / f"seed-{seed}"
    before = evaluated(given, out, "before", str(model_path("tiny-coder")), seed)
    found: dict[str, Any] = {"seed": seed, "results": {"before": before}}
    tokens = None
    for arm in ARMS:
        begun = time.monotonic()
        made = run_job(job(given, out / arm, arm, seed, tokens)).read_json("results.json")
        tokens = round(sum(row["tokens"] for row in made["rounds"]) / len(made["rounds"]))
        found["results"][arm] = evaluated(given, out / arm, "after", made["model"], seed)
        found[arm] = made["rounds"]
        print(f"seed {seed}, {arm}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The seeds in Markdown, and the mean lead of step pairs with its standard error over seeds."""
    lines = ["| seed | pass@1 before | steps | answers | steps - answers (95 %) | pairs | tokens |"]
    lines.append("|---" * 7 + "|")
    leads = []
    for row in rows:
        results = row["results"]
        after = [compare(results["before"], results[arm])["pass@1"] for arm in ARMS]
        gap = compare(results["answers"], results["steps"])["pass@1"]
        leads.append(gap["difference"])
        pairs = ["/".join(str(part["pairs"]) for part in row[arm]) for arm in ARMS]
        tokens = [f"{sum(part['tokens'] for part in row[arm]):,}" for arm in ARMS]
        cells = [str(row["seed"]), f"{after[0]['before']:.3f}", *(f"{one['after']:.3f}" for one in after)]
        cells.append(f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]")
        cells += [" against ".join(pairs), " against ".join(tokens)]
        lines.append(f"| {' | '.join(cells)} |")
    if len(leads) > 1:
        error = np.std(leads, ddof=1) / np.sqrt(len(leads))
        lines += [
            "",
            f"Mean lead of step pairs: {np.mean(leads):+.3f} (s.e. {error:.3f}, {len(leads)} seeds)",
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs, or takes up, all seeds and prints the table; it is OUT/table.md as well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=128, help="training problems that a round searches")
    parser.add_argument("--answers", type=int, default=4, help="programs of a problem in the other arm")
    parser.add_argument("--eval-split", default="test", help="tune while settings are chosen")
    parser.add_argument("--eval-samples", type=int, default=10)
    parser.add_argument("--workers", type=int, help="processes for sampling and for the sandbox")
    parser.add_argument("--out", type=Path, default=Path("runs/mcts-minipy"))
    given = parser.parse_args(argv)
    text = table([one_seed(given, seed) for seed in given.seeds])
    (given.out / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
