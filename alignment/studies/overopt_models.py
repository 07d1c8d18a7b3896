"""`codealign reproduce overoptimization-models`: the study of overoptimization.py with trained reward models.

The same world as text; each member is a tiny transformer, trained by TRL's RewardTrainer as `codealign train
reward` does (alignment/reward_modeling), scaled on held-out pairs, and put into an ensemble. Every member's
scores are a part of the run directory: killed anywhere, the same command goes on with the next member.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from alignment.bon_curves import SELECTORS, Curve, Settings, curve
from alignment.bon_plot import Panel, curves_svg
from alignment.rewards.aggregation import FloatArray, calibrate
from alignment.studies.overopt_text import Texts, draw_texts, save_start
from alignment.studies.overopt_world import World
from alignment.studies.overoptimization import MAIN, Outcome, averaged, plain, table
from codegen_eval.config import Config
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "Overoptimisation by best-of-n with tiny transformers as reward models."
CLEAN = "no label noise"
BATCH, EPOCHS, RATE, CENTRING = 32, 5, 3e-3, 0.001


class OveroptModelsConfig(Config):
    """Settings of `codealign reproduce overoptimization-models`."""

    out: Path = Path("runs/overoptimization-models")
    """Run directory; results.json, table.md and curves.svg appear in it."""
    seeds: int = Field(default=3, ge=1)
    """Number of worlds that are averaged."""
    first_seed: int = Field(default=0, ge=0)
    """The first one; the others follow."""
    members: int = Field(default=5, ge=2)
    """Reward models an ensemble."""
    pairs: int = Field(default=2000, ge=BATCH)
    """Training pairs."""
    validation: int = Field(default=1000, ge=10)
    """Held-out pairs."""
    prompts: int = Field(default=16, ge=1)
    """Prompts of the pool."""
    pool: int = Field(default=1024, ge=2)
    """Samples a prompt: the largest n."""
    lam: float = Field(default=0.5, ge=0)
    """UWO's lambda."""
    clean: bool = True
    """Run the control without label noise, too."""
    plot: bool = True
    """Write curves.svg (needs matplotlib)."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    not_identity = frozenset({"out", "overwrite", "plot"})


def run(config: OveroptModelsConfig) -> RunDir:
    """Trains and scores every member, then selects; writes results.json, table.md and curves.svg."""
    directory = RunDir.open(
        config.out, "reproduce overoptimization-models", config.identity(), overwrite=config.overwrite
    )
    if directory.finished:
        return directory
    sizes = {name: getattr(config, name) for name in ("members", "pairs", "validation", "prompts", "pool")}
    worlds = {MAIN: World(**sizes)}
    if config.clean:
        worlds[CLEAN] = World(noise=0.0, **sizes)
    jobs = [
        (name, seed, member)
        for name in worlds
        for seed in range(config.first_seed, config.first_seed + config.seeds)
        for member in range(config.members)
    ]

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        texts: dict[tuple[str, int], Texts] = {}
        for part in track(pending, len(pending), "training members"):
            name, seed, member = jobs[part]
            if (name, seed) not in texts:
                texts = {(name, seed): draw_texts(worlds[name], seed)}
            work = directory.path / "work"
            row = train_and_score(worlds[name], texts[name, seed], seed, member, work)
            yield part, [{"setting": name, "seed": seed, "member": member, **row}]

    rows = list(read_jsonl(directory.build("members", len(jobs), produce)))
    outcomes = {
        name: outcome_of(worlds[name], [row for row in rows if row["setting"] == name], config.lam)
        for name in worlds
    }
    directory.write_json("results.json", {name: plain(outcome) for name, outcome in outcomes.items()})
    directory.write_text("table.md", table(outcomes, config.seeds))
    if config.plot:
        panels = [Panel(name, list(outcome.curves.values())) for name, outcome in outcomes.items()]
        directory.write_text("curves.svg", curves_svg(panels, gold="gold, standard deviations"))
    directory.finish(seeds=config.seeds, **outcomes[MAIN].criterion())
    return directory


def train_and_score(world: World, texts: Texts, seed: int, member: int, work: Path) -> dict[str, Any]:
    """One member, trained and asked; nothing of it stays but its scores.

    Returns:
        `validation`: raw scores of the held-out pairs' better and worse sides, shape (2, pairs); `pool`: of
        the pool's answers, shape (prompts x samples,).
    """
    import torch
    from trl import RewardConfig

    from alignment.reward_modeling.members import MemberNote, member_seeds
    from alignment.reward_modeling.scoring import RewardModel
    from alignment.reward_modeling.train import make_trainer, member_arguments, release, train_member

    shutil.rmtree(work, ignore_errors=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two are many times slower than one
    try:
        seeds = member_seeds(seed, world.members)[member]
        start = save_start(work / "start", world, seeds.head)
        model, tokenizer = _load(start)
        training = RewardConfig(
            output_dir=str(work / "training"),
            per_device_train_batch_size=BATCH,
            num_train_epochs=EPOCHS,
            learning_rate=RATE,
            adam_beta2=0.95,
            weight_decay=0.0,
            lr_scheduler_type="linear",
            warmup_steps=10,
            max_length=world.length + 2,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        trainer, _ = make_trainer(
            model,
            tokenizer,
            member_arguments(training, seeds, work / "training"),
            texts.train,
            reward_l2=CENTRING,
        )
        train_member(
            trainer, work / "training", work / "member", MemberNote(training.max_length, seeds), tokenizer
        )
        release(trainer)
        scorer = RewardModel(work / "member", batch_size=512, device="cpu")
        sides = [
            [(p.prompt, p.chosen) for p in texts.validation],
            [(p.prompt, p.rejected) for p in texts.validation],
        ]
        validation = [scorer.score(*zip(*side, strict=True)) for side in sides]
        pool = scorer.score(*zip(*texts.pool, strict=True))
    finally:
        torch.set_num_threads(threads)
    shutil.rmtree(work, ignore_errors=True)
    return {"validation": validation, "pool": pool}


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    return AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def outcome_of(world: World, rows: Sequence[dict[str, Any]], lam: float) -> Outcome:
    """Scales the members, selects by each rule, and averages over seeds.

    Args:
        world: Of this setting.
        rows: Of `members.jsonl`, all seeds and members of it.
        lam: UWO's lambda.
    """
    settings = Settings(lam=lam, resamples=0)
    by_seed: dict[str, list[Curve]] = {name: [] for name in SELECTORS}
    accuracies, spreads, tails = [], [], []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        texts = draw_texts(world, seed)
        members = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["member"])
        validation = np.array([row["validation"] for row in members])  # (members, 2, pairs)
        scales = [calibrate(scores.ravel()) for scores in validation]
        pool: FloatArray = np.stack(
            [scale.apply(np.array(row["pool"])) for scale, row in zip(scales, members, strict=True)], axis=-1
        ).reshape(world.prompts, world.pool, -1)
        accuracies.append(float((validation[:, 0] > validation[:, 1]).mean()))
        tails.append(float((texts.tail > 0).mean()))
        odd = texts.tail >= 8
        if odd.any():
            spreads.append(float(pool[odd].std(axis=0).mean()))
        for name in SELECTORS:
            by_seed[name].append(curve(list(pool), list(texts.pool_gold), name, settings))
    return Outcome(
        curves={name: averaged(curves) for name, curves in by_seed.items()},
        accuracy=float(np.mean(accuracies)),
        tail_share=float(np.mean(tails)),
        odd_spread=float(np.mean(spreads)) if spreads else float("nan"),
    )


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = OveroptModelsConfig.parse(
        argv, prog="codealign reproduce overoptimization-models", description=DESCRIPTION
    )
    directory = run(config)
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
