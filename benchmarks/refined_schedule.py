"""A refined schedule against the one that it was refined from: DPO of tiny-coder, held-out loss by seed.

    python -m benchmarks.refined_schedule --pairs RUN/pairs/pairs.jsonl --out runs/bench/refined_schedule

Each seed trains with the recipe's schedule (linear with warm-up) while the norms of gradients are logged,
refines it, and trains again from the same start: refined, and linear without warm-up. Pairs of the last
prompts are held out. The learning rate is one for all, so a schedule with a larger mean also takes larger
steps: the mean
factor stands beside.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from alignment import dpo
from alignment.refine_command import refine
from alignment.resources import model_path, recipe_path
from alignment.schedules import factor, load_schedule

HELD_OUT = 0.2


def split(source: Path, folder: Path) -> tuple[Path, Path]:
    """Training and held-out pairs; a prompt's pairs stay together."""
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    kept = set(prompts[: int(len(prompts) * (1 - HELD_OUT))])
    paths = folder / "train.jsonl", folder / "held_out.jsonl"
    for path, inside in zip(paths, (True, False), strict=True):
        chosen = [row for row in rows if (row["prompt"] in kept) == inside]
        path.write_text("".join(json.dumps(row) + "\n" for row in chosen))
    return paths


def held_out_loss(model: Path, argv: list[str], pairs: Path, cache: Path) -> dict[str, float]:
    """The DPO loss and accuracy of a trained model on pairs, against the start as reference."""
    import torch

    from alignment.preference.data import load_pairs
    from alignment.preference.trainer import PairTrainer
    from codegen_eval.generation.hf import load_model

    arguments = dpo.parse([*argv, "--output_dir", str(cache / "unused")])
    arguments.training.precompute_ref_log_probs = False
    reference, tokenizer = load_model(str(model_path("tiny-coder")), dtype="float32", device="cpu")
    trained, _ = load_model(str(model), dtype="float32", device="cpu")
    for one in (reference, trained):
        one.set_attn_implementation("eager")
    trainer: Any = PairTrainer(
        trained,
        arguments.training,
        load_pairs(str(pairs)),
        tokenizer,
        options=arguments.options,
        ref_model=reference,
    )
    trained.eval()
    losses, sizes = [], []
    with torch.no_grad():
        for begin in range(0, len(trainer.train_dataset), 32):
            rows = [
                trainer.train_dataset[i] for i in range(begin, min(begin + 32, len(trainer.train_dataset)))
            ]
            batch = trainer._prepare_inputs(trainer.data_collator(rows))
            losses.append(float(trainer.compute_loss(trained, batch)))
            sizes.append(len(rows))
    accuracies = trainer._metrics["eval"]["rewards/accuracies"]
    return {
        "loss": float(np.average(losses, weights=sizes)),
        "accuracy": float(np.average(accuracies, weights=sizes)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tau", type=float, default=0.1)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    train, held_out = split(given.pairs, given.out)
    common = ["--config", str(recipe_path("tiny-coder/dpo.yaml")), "--model_name_or_path"]
    common += [str(model_path("tiny-coder")), "--dataset_name", str(train), "--shared_prompt", "true"]
    common += ["--max_steps", str(given.steps), "--per_device_train_batch_size", str(given.batch)]
    common += ["--reference_cache", str(given.out / "reference"), "--logging_steps", "5"]
    rows = []
    for seed in range(given.seeds):
        base = given.out / f"base-{seed}"
        ways = {
            "linear, 10 steps of warm-up (base)": [],
            "refined from it": ["--lr_schedule_file", str(base / "schedule.json")],
            "linear": ["--warmup_steps", "0"],
        }
        for number, (name, flags) in enumerate(ways.items()):
            folder = base if number == 0 else given.out / f"{number}-{seed}"
            argv = [*common, "--seed", str(seed), *flags]
            logged = ["--log_gradient_norms", "true"] if number == 0 else []
            dpo.run([*argv, *logged, "--output_dir", str(folder)])
            if number == 0:
                refine(base, None, tau=given.tau)
            measured = held_out_loss(folder / "model", argv, held_out, given.out)
            rows.append(
                {
                    "schedule": name,
                    "seed": seed,
                    **measured,
                    "mean_factor": mean_factor(name, base, given.steps),
                }
            )
            print(rows[-1], flush=True)
    (given.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("\n| schedule | mean factor | held-out loss | difference to base, by seed | accuracy |")
    print("|---|---|---|---|---|")
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["schedule"], []).append(row)
    first = next(iter(by_name.values()))
    for name, found in by_name.items():
        gaps = [f"{row['loss'] - base['loss']:+.4f}" for row, base in zip(found, first, strict=True)]
        means = {key: np.mean([row[key] for row in found]) for key in ("loss", "accuracy", "mean_factor")}
        print(
            f"| {name} | {means['mean_factor']:.2f} | {means['loss']:.4f} | {', '.join(gaps)} | "
            f"{means['accuracy']:.3f} |"
        )


def mean_factor(name: str, base: Path, steps: int) -> float:
    """Mean over the run of the rate's factor, by the schedule's definition."""
    if name.startswith("refined"):
        curve = load_schedule(base / "schedule.json")
        return float(np.mean([factor(curve, step, steps) for step in range(steps)]))
    warmup = 10 if "warm-up" in name else 0
    return float(
        np.mean(
            [
                min(step / warmup if step < warmup else 1, (steps - step) / (steps - warmup))
                for step in range(steps)
            ]
        )
    )


if __name__ == "__main__":
    main()
