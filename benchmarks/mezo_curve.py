"""MeZO, Sparse MeZO and AdamW on the same pairs: loss over forward passes, held-out loss; and a pass rate.

    python -m benchmarks.mezo_curve --pairs RUN/pairs/pairs.jsonl --out runs/mezo --figure docs/img/mezo.svg

DPO of tiny-coder by recipes/tiny-coder/mezo.yaml and dpo.yaml, batches of 8 pairs, the last fifth of the
prompts held out, one seed. A backward pass counts as two forward ones. The pass-rate run is
mezo-pass-rate.yaml's: greedy programs for its own problems. Each part is a run directory and resumes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.refined_schedule import held_out_loss, split

PASSES = {"MeZO": 2, "Sparse MeZO": 2, "AdamW": 3}
"""Forward passes a step: two evaluations, or one with its backward pass."""


def train(name: str, folder: Path, pairs: Path, cache: Path, steps: dict[str, int]) -> list[str]:
    from alignment import dpo, mezo
    from alignment.resources import model_path, recipe_path

    recipe = "dpo" if name == "AdamW" else "mezo"
    argv = ["--config", str(recipe_path(f"tiny-coder/{recipe}.yaml")), "--dataset_name", str(pairs)]
    argv += [
        "--model_name_or_path",
        str(model_path("tiny-coder")),
        "--reference_cache",
        str(cache / "reference"),
    ]
    argv += ["--shared_prompt", "true", "--per_device_train_batch_size", "8", "--max_steps", str(steps[name])]
    if name == "Sparse MeZO":
        argv += ["--sparsity", "0.75", "--learning_rate", "6e-3"]
    (dpo if name == "AdamW" else mezo).run([*argv, "--output_dir", str(folder)])
    return argv


def curve(name: str, folder: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"] * PASSES[name], row["loss"]) for row in rows if "step" in row and "loss" in row]


def pass_rate(out: Path, steps: int) -> list[tuple[int, float]]:
    """The mean reward of each window of steps, at the points where MeZO looked."""
    from alignment import mezo
    from alignment.resources import model_path, recipe_path

    folder = out / "pass-rate"
    argv = ["--config", str(recipe_path("tiny-coder/mezo-pass-rate.yaml")), "--max_steps", str(steps)]
    argv += [
        "--model_name_or_path",
        str(model_path("tiny-coder")),
        "--output_dir",
        str(folder),
        "--workers",
        "1",
    ]
    mezo.run(argv)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["reward"]) for row in rows if "reward" in row]


def draw(curves: dict[str, list[tuple[float, float]]], rewards: list[tuple[int, float]], path: Path) -> None:
    from alignment.studies.figures import svg_file

    with svg_file(path, 8 if rewards else 5, 3.2, columns=2 if rewards else 1) as axes:
        for name, points in curves.items():
            axes[0].plot(*zip(*points, strict=True), label=name)
        axes[0].set_xlabel("forward passes (a backward pass counts as two)")
        axes[0].set_ylabel("DPO loss on training batches")
        axes[0].legend()
        if rewards:
            axes[1].plot(*zip(*rewards, strict=True), color="C3")
            axes[1].set_xlabel("steps")
            axes[1].set_ylabel("pass rate of greedy programs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--adam-steps", type=int, default=40)
    parser.add_argument("--reward-steps", type=int, default=60, help="0 leaves the pass-rate run out")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    pairs, held_out = split(given.pairs, given.out)
    steps = {"MeZO": given.steps, "Sparse MeZO": given.steps, "AdamW": given.adam_steps}
    curves, found = {}, []
    for name in PASSES:
        folder = given.out / name.lower().replace(" ", "-")
        train(name, folder, pairs, given.out, steps)
        curves[name] = curve(name, folder)
        like = ["--config", "recipes/tiny-coder/dpo.yaml", "--model_name_or_path", "x", "--dataset_name", "x"]
        measured: dict[str, Any] = held_out_loss(folder / "model", like, held_out, given.out)
        found.append({"name": name, "steps": steps[name], "passes": steps[name] * PASSES[name], **measured})
        print(found[-1], flush=True)
    rewards = pass_rate(given.out, given.reward_steps) if given.reward_steps else []
    (given.out / "results.json").write_text(json.dumps({"pairs": found, "rewards": rewards}, indent=1) + "\n")
    print("\n| | steps | forward passes | last training loss | held-out loss | held-out accuracy |")
    print("|---|---|---|---|---|---|")
    for row in found:
        last = curves[row["name"]][-1][1]
        print(
            f"| {row['name']} | {row['steps']} | {row['passes']} | {last:.3f} | {row['loss']:.3f} | "
            f"{row['accuracy']:.3f} |"
        )
    if rewards:
        print("\npass rate by step:", ", ".join(f"{step}: {value:.3f}" for step, value in rewards))
    if given.figure:
        draw(curves, rewards, given.figure)


if __name__ == "__main__":
    main()
