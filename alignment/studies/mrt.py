"""`codealign reproduce mrt`: does training by progress lower regret against training by outcome?

MRT (Qu et al. 2025, arXiv 2503.07572) in miniature:

    codealign reproduce mrt --out runs/mrt [--page docs/mrt.md]

The episode task (codegen_eval/tasks/episodes.py), a model of 0.1 M weights trained on it from scratch for
every seed, and from each of these models the arms of mrt_arms.py. Regret is 1 minus the area below J by
tokens of thinking over the budget, J being measured by forced stops. A seed's arms share base model and
problems, so that differences are by seed.

Stopped, the same command goes on with the next arm of the next seed.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from alignment.studies.mrt_arms import ARMS, Sizes, measured
from alignment.studies.mrt_page import draw_all, results_of, table, write_page
from alignment.studies.mrt_world import BaseRecipe, train_base
from codegen_eval.config import Config
from codegen_eval.errors import unknown
from codegen_eval.jsonl import plain
from codegen_eval.runs import RunDir, read_jsonl

DESCRIPTION = "MRT on the embedded episode task: regret of thinking, by progress against by outcome."
BUDGETS = (9.0, 15.0, 21.0, 30.0, 45.0, 60.0)
FIRST = ("base", "star", "mrt-star")
"""Arms of the claim; they come first for all seeds."""


class MRTConfig(Config):
    """Settings of `codealign reproduce mrt`."""

    out: Path = Path("runs/mrt")
    """Run directory; results.json, table.md, the figures and the base models appear in it."""
    seeds: int = Field(default=5, ge=1)
    """Number of seeds: base models, problems, samples."""
    first_seed: int = Field(default=0, ge=0)
    """The first one; the others follow."""
    arms: tuple[str, ...] = ("base", "star", "mrt-star", "rl", "mrt-rl")
    """Arms to run: base, star, star-shortest, mrt-star, mrt-star-progress, rl, mrt-rl, mrt-rl-mixed,
    mrt-rl-termination."""
    base_steps: int = Field(default=700, ge=1)
    """Updates of the base model: few enough that it still errs."""
    questions: int = Field(default=250, ge=1)
    """Problems a round of fine-tuning."""
    updates: int = Field(default=60, ge=1)
    """Updates a round of fine-tuning."""
    rl_steps: int = Field(default=40, ge=1)
    """Updates of the on-policy arms."""
    eval_questions: int = Field(default=150, ge=1)
    """Problems to measure on."""
    page: Path | None = None
    """A Markdown page whose text between the marks becomes the table; figures go to img/ beside it."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    not_identity = frozenset({"out", "overwrite", "page", "seeds", "arms"})

    @field_validator("arms")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in ARMS:
                raise unknown("arm", name, ARMS)
        return tuple(dict.fromkeys(("base", *value)))

    def sizes(self) -> Sizes:
        """The sizes of one seed."""
        return replace(
            Sizes(),
            base=replace(BaseRecipe(), steps=self.base_steps),
            questions=self.questions,
            updates=self.updates,
            rl_steps=self.rl_steps,
            eval_questions=self.eval_questions,
        )


def run(config: MRTConfig) -> RunDir:
    """Trains and measures every arm of every seed that is missing; writes results, table and figures of all
    that the directory holds.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine two are many times slower than one
    try:
        directory = RunDir.open(config.out, "reproduce mrt", config.identity(), overwrite=config.overwrite)
        seeds = range(config.first_seed, config.first_seed + config.seeds)
        for arms in ([a for a in config.arms if a in FIRST], [a for a in config.arms if a not in FIRST]):
            for seed in seeds:
                for arm in arms:
                    _build(directory, config.sizes(), seed, arm)
    finally:
        torch.set_num_threads(threads)
    rows = found_rows(directory)
    results = results_of(rows, BUDGETS)
    # One seed has no interval: its ends become null.
    whole = {**results, "sizes": asdict(config.sizes()), "rows": rows}
    directory.write_json("results.json", plain(whole, finite=True))
    text = table(results)
    directory.write_text("table.md", text)
    draw_all(results, directory.path)
    if config.page is not None:
        draw_all(results, config.page.parent / "img")
        write_page(config.page, text)
    directory.log(event="written", seeds=config.seeds, arms=list(config.arms))
    directory.close()  # never finished: more seeds and arms may follow
    return directory


def found_rows(directory: RunDir) -> list[dict[str, Any]]:
    """The rows of all arms and seeds that the directory holds, those of earlier calls too, in order."""
    found = []
    for arm in ARMS:
        paths = {
            int(seed): path
            for path in directory.path.glob(f"{arm}-*.jsonl")
            if (seed := path.stem.removeprefix(f"{arm}-")).isdecimal()
        }
        found += [row for seed in sorted(paths) for row in read_jsonl(paths[seed])]
    return found


def _build(directory: RunDir, sizes: Sizes, seed: int, arm: str) -> None:
    """Makes the row of one arm of one seed if it is not there."""

    def produce(_: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        base, tokenizer = base_model(directory, sizes, seed)
        began = time.process_time()
        model, spent = ARMS[arm](base, tokenizer, sizes, seed)
        trained = time.process_time() - began
        row = measured(model, tokenizer, sizes, seed, BUDGETS)
        print(
            f"seed {seed}  {arm:<18} regret at 21 {row['regret']['21.0']:.3f}  accuracy {row['accuracy']:.3f}"
            f"  ({trained:.0f} + {time.process_time() - began - trained:.0f} s CPU)",
            file=sys.stderr,
            flush=True,
        )
        yield 0, [{"seed": seed, "arm": arm, **asdict(spent), **row}]

    directory.build(f"{arm}-{seed}", 1, produce)


def base_model(directory: RunDir, sizes: Sizes, seed: int) -> tuple[Any, Any]:
    """A seed's base model, trained if it is not there; kept in the run directory as `base-SEED`."""
    from codegen_eval.generation.hf import load_model

    folder = directory.path / f"base-{seed}"
    if not folder.exists():
        began = time.process_time()
        model, tokenizer = train_base(sizes.base, sizes.task, seed)
        part = directory.path / f".tmp-base-{seed}"
        shutil.rmtree(part, ignore_errors=True)
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)
        print(
            f"seed {seed}  base model ({time.process_time() - began:.0f} s CPU)", file=sys.stderr, flush=True
        )
    return load_model(str(folder), device="cpu")


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    directory = run(MRTConfig.parse(argv, prog="codealign reproduce mrt", description=DESCRIPTION))
    print((directory.path / "table.md").read_text(encoding="utf-8"))
    print(f"results: {directory.path}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
