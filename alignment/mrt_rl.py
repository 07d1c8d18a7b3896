"""Entry point: MRT (RL), on-policy updates rewarded by outcome and progress (arXiv 2503.07572).

    codealign train mrt-rl --config recipes/episodes/mrt-rl.yaml --model_name_or_path MODEL

`form` says how progress enters: bonus, mixed, termination, or outcome for the comparison, see
alignment/mrt/rl.py. `output_dir` is a run directory: metrics.jsonl, checkpoint, `model/`. Killed anywhere,
the same command goes on to the same weights. Several processes (`--accelerate ddp`, `zero2`, `zero3`) draw
and learn shares of the same steps; `alignment.mrt.rewards` is the same as a reward for other trainers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from alignment.mrt.config import MRTTrainConfig
from codegen_eval.runs import RunDir

if TYPE_CHECKING:
    from alignment.health.loops import Watch
    from alignment.mrt.rl import Group, Prefix
    from alignment.mrt.updates import Updates

DESCRIPTION = "MRT (RL): on-policy updates rewarded by outcome and progress."


class MRTRLConfig(MRTTrainConfig):
    """What `alignment.mrt_rl` takes."""

    form: str = "bonus"
    """bonus (a), mixed (b), termination (c), or outcome: no progress, for comparison."""
    alpha: float = Field(1.0, ge=0)
    """Weight of progress in the reward; 0 for the form outcome."""
    num_generations: int = Field(4, ge=2)
    """Rollouts of each prefix."""
    stops: int = Field(4, ge=1)
    """Forced stops behind a prefix, and behind each rollout's next episodes."""
    ahead: int = Field(1, ge=0)
    """Episodes of its own that a rollout is credited with; 0 for all."""
    max_steps: int = Field(100, ge=1)
    """Updates."""
    prompts_per_step: int = Field(16, ge=1)
    """Prefixes an update, of all processes together."""
    prefix_steps: int = Field(10, ge=1)
    """Steps between draws of prefixes: how old the policy that drew them gets."""


def run(argv: Sequence[str]) -> RunDir:
    """Trains, or goes on training, and saves the model.

    Raises:
        CodealignError: For options, data or models that cannot be used, and a launch under FSDP.
    """
    config = MRTRLConfig.parse(argv, prog="alignment.mrt_rl", description=DESCRIPTION)
    from alignment.mrt.rl import StepOptions
    from alignment.mrt.rl_steps import Plan

    options = StepOptions(
        form=config.form,  # type: ignore[arg-type]  # checked there
        alpha=config.alpha,
        rollouts=config.num_generations,
        stops=config.stops,
        ahead=config.ahead,
    )
    plan = Plan(
        config.max_steps, config.prompts_per_step, config.prefix_steps, config.micro_rows, config.seed
    )
    from alignment.health.loops import watching
    from alignment.mrt.config import load_policy, prover_of, questions_of
    from alignment.mrt.job import conclude, fresh, open_run, rewind, take_up
    from alignment.mrt.rl_steps import prefixes_from, train_steps
    from alignment.ranks import joined

    health = config.health()
    questions = questions_of(config)
    ranks = joined("mrt-rl", cpu=config.use_cpu)
    directory = open_run(config, "mrt_rl", ranks)
    if directory.finished:
        return directory
    model, tokenizer = load_policy(config, ranks)
    updates = fresh(config, model, ranks)
    prover = prover_of(config, updates, tokenizer)
    block: list[Prefix] = []
    more = take_up(directory, updates)
    if more is not None:
        block = prefixes_from(more["block"], questions)
        if ranks.first:
            print(f"going on after {updates.steps} updates", file=sys.stderr)
    ranks.led(lambda: rewind(directory, 0, updates.steps))
    with watching(directory.path, health, rank=ranks.rank, world=ranks.world) as watch:
        updates.allows = watch.allows
        train_steps(
            prover,
            updates,
            questions,
            options,
            plan,
            block=block,
            after=_after(config, directory, watch),
            passes_over=watch.passes_over,
        )
    conclude(directory, updates, tokenizer, 0, updates.steps)
    return directory


def _after(config: MRTRLConfig, directory: RunDir, watch: Watch) -> Any:
    """Logs and saves behind every step."""
    from alignment.mrt.job import save
    from alignment.mrt.rl_steps import figures_of, plain_prefixes

    def after(updates: Updates, block: Sequence[Prefix], groups: Sequence[Group], loss: float | None) -> None:
        told, ranks = figures_of(groups, loss), updates.ranks
        watch.step_done(updates.steps, config.max_steps, int(told["rollout_tokens"] or 0) // ranks.world)
        logged = updates.steps % config.logging_steps == 0 or updates.steps == config.max_steps
        if logged and groups and ranks.first:
            directory.log(round=0, step=updates.steps, **told)
            print(
                f"step {updates.steps}/{config.max_steps}  outcome {told['outcome']:.3f}  "
                f"J(prefix) {told['j_prefix']:.3f}  progress {told['progress']:+.3f}",
                file=sys.stderr,
            )
        if updates.steps % config.save_steps == 0 and updates.steps < config.max_steps:
            save(directory, updates, updates.steps, watch, block=plain_prefixes(block))

    return after


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `alignment.mrt_rl`."""
    from alignment.preference.job import entry_point

    return entry_point(run, argv)


if __name__ == "__main__":
    sys.exit(main())
