"""Entry point: MRT (STaR), fine-tuning on traces chosen and cut by their progress (arXiv 2503.07572).

    codealign train mrt-star --config recipes/episodes/mrt-star.yaml --model_name_or_path MODEL

Each round samples traces of every question, measures J behind each prefix by forced stops, keeps one trace of
a question at most and fine-tunes on it. `output_dir` is a run directory: rows-NNN.jsonl (what each round
kept), metrics.jsonl, `model/`. Killed anywhere, the same command goes on to the same weights. Several
processes (`--accelerate ddp`, `zero2`, `zero3`) draw shares of the same traces, and each adds its own to an
update.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from alignment.mrt.config import MRTTrainConfig
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.health.loops import Watch
    from alignment.mrt.updates import Updates

DESCRIPTION = "MRT (STaR): fine-tuning on traces chosen by their progress."


class MRTStarConfig(MRTTrainConfig):
    """What `alignment.mrt_star` takes."""

    rounds: int = Field(2, ge=1)
    """Of sampling and fine-tuning."""
    num_generations: int = Field(4, ge=1)
    """Traces of each question."""
    stops: int = Field(4, ge=1)
    """Forced stops behind each prefix."""
    rule: str = "regret"
    """Which trace is kept: progress, regret; for comparison outcome, shortest."""
    regret_budget: float = Field(30.0, gt=0)
    """Tokens of thinking, for the rule regret."""
    right_only: bool = True
    """Keep a trace only if it is right at its own end, too."""
    learn_stop: bool = True
    """Whether the forced stop behind a cut counts in the loss."""
    max_steps: int = Field(60, ge=1)
    """Updates a round."""
    per_device_train_batch_size: int = Field(64, ge=1)
    """Traces an update, of each process."""
    questions_at_once: int = Field(64, ge=1)
    """Questions that are sampled together: what a kill can cost."""


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used, a launch under FSDP, or a round
            that keeps nothing.
    """
    config = MRTStarConfig.parse(argv, prog="alignment.mrt_star", description=DESCRIPTION)
    options = _options(config)
    from alignment.health.loops import watching
    from alignment.mrt.config import load_policy, questions_of
    from alignment.mrt.job import conclude, fresh, open_run, rewind, save, take_up
    from alignment.ranks import joined

    health = config.health()
    questions = questions_of(config)
    ranks = joined("mrt-star", cpu=config.use_cpu)
    directory = open_run(config, "mrt_star", ranks)
    if directory.finished:
        return directory
    model, tokenizer = load_policy(config, ranks)
    updates, first, recent = fresh(config, model, ranks), 0, []
    more = take_up(directory, updates)
    if more is not None:
        first, recent = more["round"], more["recent"]
        if ranks.first:
            print(f"going on in round {first + 1} after {updates.steps} updates", file=sys.stderr)
    ranks.led(lambda: rewind(directory, first, updates.steps))
    with watching(directory.path, health, rank=ranks.rank, world=ranks.world) as watch:
        for number in range(first, config.rounds):
            _round(config, options, directory, updates, tokenizer, questions, number, recent, watch)
            updates.restart()
            recent = []
            done = (number + 1) * config.max_steps
            save(directory, updates, done, watch, round=number + 1, recent=[])
    conclude(directory, updates, tokenizer, config.rounds, 0)
    return directory


def _options(config: MRTStarConfig) -> Any:
    from alignment.mrt.rounds import RoundOptions

    return RoundOptions(
        traces=config.num_generations,
        stops=config.stops,
        rule=config.rule,  # type: ignore[arg-type]  # checked there
        budget=config.regret_budget,
        right_only=config.right_only,
        learn_stop=config.learn_stop,
    )


def _round(
    config: MRTStarConfig,
    options: Any,
    directory: RunDir,
    updates: Updates,
    tokenizer: Any,
    questions: Sequence[Any],
    number: int,
    recent: list[float],
    watch: Watch,
) -> None:
    """Samples and chooses what is not there yet, then makes the updates that are left."""
    from alignment.mrt.config import prover_of
    from alignment.mrt.job import made_together, save
    from alignment.mrt.rounds import figures, select, training_rows
    from alignment.mrt.updates import finetune

    ranks = updates.ranks
    prover = prover_of(config, updates, tokenizer)
    size = config.questions_at_once
    parts = [questions[i : i + size] for i in range(0, len(questions), size)]
    seed = config.seed + 1_000_003 * number

    rows = made_together(
        directory,
        f"rows-{number:03d}",
        len(parts),
        lambda part: select(prover, parts[part], options, seed),
        ranks,
        f"round {number + 1}: sampling",
    )
    kept = training_rows(rows)
    if not updates.steps and ranks.first:
        told = figures(rows)
        directory.log(round=number, step=0, **told)
        print(
            f"round {number + 1}/{config.rounds}: {told['kept']:.0f} of {told['questions']:.0f} questions "
            f"kept, accuracy {told['accuracy']:.3f}, episodes {told['episodes']:.1f}",
            file=sys.stderr,
        )

    before = number * config.max_steps
    updates.allows = lambda loss, step: watch.allows(loss, before + step)

    def after(made: Updates, loss: float | None) -> None:
        watch.step_done(before + made.steps, config.rounds * config.max_steps)
        if loss is not None and math.isfinite(loss):
            recent.append(loss)
        if recent and (made.steps % config.logging_steps == 0 or made.steps == config.max_steps):
            if ranks.first:
                directory.log(round=number, step=made.steps, loss=sum(recent) / len(recent))
            recent.clear()
        if made.steps % config.save_steps == 0 and made.steps < config.max_steps:
            save(directory, made, before + made.steps, watch, round=number, recent=list(recent))

    finetune(
        updates,
        kept,
        steps=config.max_steps,
        batch=config.per_device_train_batch_size * ranks.world,
        micro_rows=config.micro_rows,
        seed=seed,
        after=after,
        passes_over=lambda step: watch.passes_over(before + step),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.mrt_star`."""
    from alignment.preference.job import entry_point

    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
