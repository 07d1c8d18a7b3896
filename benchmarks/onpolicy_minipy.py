"""What on-policy training brings on MiniPy: pass@1 before and after, for several methods and seeds.

    python -m benchmarks.onpolicy_minipy --seeds 0 1 2 --methods remax rloo ppo --out runs/onpolicy

Training prompts are MiniPy's training split; the reward runs a program on the tests that its prompt shows;
what is measured are the hidden tests of other problems (`--eval-split tune` while settings are chosen), with
the quickstart's sampling, before and after, paired by problem. The starting model is always the shipped one;
a seed decides prompts' order, samples and the evaluation's programs. Seeds run one after the other.

With `--eff` and the method `remax-fast`, whose reward pays for speed, the programs are also scored by eff@1
(robust procedure) and the two rewards compared, paired by problem.

Every step is a run directory: stopped anywhere, the same command goes on. `table.md` and `curves.svg` (reward
of the samples by step) appear in the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.quickstart import Chain, QuickstartConfig
from alignment.resources import model_path, recipe_path
from alignment.studies.figures import svg_file
from alignment.train_command import launch
from codegen_eval.comparison import compare
from codegen_eval.config import load_config
from codegen_eval.errors import CodealignError
from codegen_eval.runs import RunDir, read_jsonl

METHODS = {"remax": "remax", "rloo": "rloo", "ppo": "ppo", "remax-fast": "remax"}
"""What trains, by the recipe's name."""
FAST, PLAIN = "remax-fast", "remax"
HEADER = ("method", "seed", "reward", "KL", "cut", "pass@1", "difference", "slow share", "s a step")
EFF_REPEATS = 3
SPEED_HEADER = (
    f"\n| seed | eff@1, {PLAIN} -> {FAST} | difference | pass@1 | difference |\n" + "|---" * 5 + "|\n"
)
EDGE = 5
"""Steps at either end whose rewards are averaged for the table."""

Rows = list[dict[str, Any]]


def evaluated(out: Path, name: str, model: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Draws programs of a model for the evaluation split and scores them on its hidden tests."""
    values = {"out": out, "seed": seed, "eval_split": given.eval_split, "workers": given.workers}
    if given.eval_samples is not None:
        values["eval_samples"] = given.eval_samples
    config = load_config(recipe_path("tiny-coder/quickstart.yaml"), QuickstartConfig, values)
    chain = Chain(config)
    chain.steps = 2
    return dict(chain.evaluate(name, model)[1].read_json("results.json"))


def graded(out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """eff@1 of the programs that `evaluated` drew into the folder."""
    from codegen_eval.commands import eval as eval_command

    config = eval_command.EvalConfig(
        out=out / "after-eff",
        benchmark="minipy",
        split=given.eval_split,
        samples=out / "after-samples/programs.jsonl",
        eff="robust",
        repeats=EFF_REPEATS,
        efficiency=False,
        workers=given.workers,
        model=out.name,
    )
    return dict(eval_command.run(config).read_json("results.json"))


def trained(out: Path, method: str, seed: int, overrides: Sequence[str]) -> Path:
    """Trains in a process of its own, or takes up what is there; the run directory."""
    if not RunDir(out).finished:
        asked = ["--model_name_or_path", str(model_path("tiny-coder")), "--output_dir", str(out)]
        asked += ["--seed", str(seed), *overrides]
        if status := launch(METHODS[method], recipe_path(f"tiny-coder/{method}.yaml"), asked):
            raise CodealignError(
                f"{method}, seed {seed}, ended with status {status}; its message stands above"
            )
    return out


def steps(run: Path) -> Rows:
    """The figures of each step."""
    return [row for row in read_jsonl(run / "metrics.jsonl") if "reward/sampled" in row]


def line(method: str, seed: int, rows: Rows, compared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One row of the table."""
    gain, slow = compared["pass@1"], compared.get("slow_share")
    rewards = [row["reward/sampled"] for row in rows]
    first, last = rewards[:EDGE], rewards[-EDGE:]
    return [
        method,
        str(seed),
        f"{sum(first) / len(first):.3f} -> {sum(last) / len(last):.3f}",
        f"{rows[-1].get('objective/kl', float('nan')):.2f}",
        f"{rows[-1]['completions/clipped_ratio']:.2f}",
        f"{gain['before']:.3f} -> {gain['after']:.3f}",
        f"{gain['difference']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
        f"{slow['before']:.3f} -> {slow['after']:.3f}" if slow else "",
        f"{sum(row['time/step'] for row in rows) / len(rows):.1f}",
    ]


def speed_line(seed: int, compared: Mapping[str, Mapping[str, Any]]) -> str:
    """One row of the second table: what pay for speed brought over the run without it."""
    cells = [str(seed)]
    for name in ("eff@1", "pass@1"):
        row = compared[name]
        cells.append(f"{row['before']:.3f} -> {row['after']:.3f}")
        cells.append(f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
    return f"| {' | '.join(cells)} |\n"


def curves(found: Mapping[tuple[str, int], Rows], target: Path) -> None:
    """Reward of the samples by step: a panel a method, a line a seed."""
    methods = list(dict.fromkeys(method for method, _ in found))
    with svg_file(target, 3.2 * len(methods), 2.6, len(methods)) as axes:
        for panel, method in zip(axes, methods, strict=True):
            for (name, seed), rows in found.items():
                if name == method:
                    x = [row["step"] for row in rows]
                    panel.plot(x, [row["reward/sampled"] for row in rows], linewidth=1, label=f"seed {seed}")
            panel.set_title(method)
            panel.set_xlabel("step")
            panel.set_ylim(0, 1)
        axes[0].set_ylabel("reward of the samples")
        axes[0].legend()


def measure(given: argparse.Namespace) -> str:
    """Runs, or takes up, everything; the table as Markdown."""
    lines = [list(HEADER), ["---"] * len(HEADER)]
    found: dict[tuple[str, int], Rows] = {}
    speed = ""
    for seed in given.seeds:
        folder = given.out / f"seed-{seed}"
        efficient: dict[str, dict[str, Any]] = {}
        before = evaluated(folder, "before", str(model_path("tiny-coder")), seed, given)
        for method in given.methods:
            out = folder / method
            run = trained(out / "train", method, seed, given.set)
            after = evaluated(out, "after", str(run / "model"), seed, given)
            found[method, seed] = steps(run)
            lines.append(line(method, seed, found[method, seed], compare(before, after)))
            print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
            if given.eff:
                efficient[method] = graded(out, given)
        if {PLAIN, FAST} <= efficient.keys():
            speed += speed_line(seed, compare(efficient[PLAIN], efficient[FAST]))
    curves(found, given.out / "curves.svg")
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines) + (speed and SPEED_HEADER + speed)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs all seeds and methods and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["remax", "rloo", "ppo"])
    parser.add_argument("--eff", action="store_true", help="eff@1 as well; slower")
    parser.add_argument("--eval-split", default="test", help="tune while settings are chosen")
    parser.add_argument("--eval-samples", type=int, help="instead of the quickstart's")
    parser.add_argument("--workers", type=int, help="processes of the evaluations")
    parser.add_argument("--out", type=Path, default=Path("runs/onpolicy"))
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="options for every training")
    given = parser.parse_args(argv)
    table = measure(given)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "table.md").write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
