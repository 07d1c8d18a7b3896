"""Steps of MRT (RL): prefixes of an older policy, groups of the present one, one update each.

Prefixes are drawn for a block of steps at its beginning, so that the policy that drew them is up to a block
older than the one that thinks on; nothing of the older policy but its text is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from alignment.health.monitor import phase
from alignment.mrt.prover import Prover
from alignment.mrt.rl import (
    Group,
    Prefix,
    StepOptions,
    draw_groups,
    draw_prefixes,
    step_figures,
    training_rows,
)
from alignment.mrt.traces import Question
from alignment.mrt.updates import Loss, Row, Updates, packed, weighted_losses
from alignment.ranks import ALONE, Ranks
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Plan:
    """How many steps, of how many prompts.

    Attributes:
        steps: Updates.
        prompts: Questions a step.
        block: Steps between draws of prefixes: how old the older policy gets.
        micro_rows: Rows at a time in the backward pass.
        seed: Of everything.
    """

    steps: int
    prompts: int
    block: int = 10
    micro_rows: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.prompts, self.block, self.micro_rows) < 1:
            raise CodealignError(f"every number of {asdict(self)} but the seed must be 1 or more")


def policy_losses(
    model: Any, rows: Sequence[Row], micro_rows: int, temperature: float = 1.0, ranks: Ranks = ALONE
) -> list[Loss]:
    """Parts of -sum(advantage x log pi) / rows, the weights of the rows being their tokens' advantages.

    Each rank makes those of its share, divided by the rows of all.

    `temperature` is the one that the rows were drawn with: log pi is of the distribution that was sampled.
    """
    return weighted_losses(model, packed(rows, micro_rows, model.device, ranks), len(rows), temperature)


def train_steps(
    prover: Prover,
    updates: Updates,
    questions: Sequence[Question],
    options: StepOptions,
    plan: Plan,
    *,
    block: Sequence[Prefix] = (),
    after: Callable[[Updates, Sequence[Prefix], Sequence[Group], float | None], None],
    passes_over: Callable[[int], bool] = lambda update: False,
) -> None:
    """Steps from `updates.steps` on, each question in turn, round and round.

    A step in which no row is left (no reward known, or groups of one) changes nothing and counts.

    Args:
        prover: Over the model of `updates`.
        updates: Fresh, or loaded.
        questions: To train on.
        options: Of the groups.
        plan: Of the steps.
        block: Prefixes of the block that `updates.steps` lies in, if it has begun.
        after: Called behind every step with the block's prefixes, the groups and the loss: log, save.
        passes_over: Whether an update, by its number from 1, is left out: nothing is drawn for it, and
            `after` gets no groups.

    Raises:
        CodealignError: For no questions; as `Updates.step`.
    """
    if not questions:
        raise CodealignError("there are no questions to train on")
    temperature = prover.decoder.temperature
    while updates.steps < plan.steps:
        step = updates.steps
        inside = step % plan.block
        if inside and not block:
            raise CodealignError(f"step {step} is inside a block of prefixes, which have to be given")
        if inside == 0:
            of = [
                questions[i % len(questions)]
                for i in range(step * plan.prompts, (step + plan.block) * plan.prompts)
            ]
            block = draw_prefixes(prover, of, plan.seed + 7919 * step, whole=options.form == "outcome")
        if passes_over(step + 1):
            updates.steps += 1
            after(updates, block, (), None)
            continue
        prefixes = block[inside * plan.prompts : (inside + 1) * plan.prompts]
        groups = draw_groups(prover, prefixes, options, plan.seed + 7919 * step + 1)
        rows = training_rows(groups, options, prover.stop_ids, prover.end)
        loss = None
        if rows:
            with phase("update"):
                losses = policy_losses(
                    updates.model, rows, plan.micro_rows, temperature or 1.0, updates.ranks
                )
                loss = updates.step(losses)
        else:
            updates.steps += 1
        after(updates, block, groups, loss)


def tokens_of(groups: Sequence[Group]) -> tuple[int, int]:
    """Tokens that were drawn: in rollouts, and in forced answers behind the prefixes.

    The forced answers behind rollouts, which give J_i, are not in it, nor what drawing the prefixes took.
    """
    new = sum(
        len(r.thinking) + len(r.ending) - len(group.prefix.thinking)
        for group in groups
        for r in group.rollouts
    )
    return new, sum(len(stop.ids) for group in groups for stop in group.stops)


def figures_of(groups: Sequence[Group], loss: float | None) -> dict[str, float | None]:
    """A step's row of metrics."""
    rollouts, stops = tokens_of(groups)
    return {**step_figures(groups), "loss": loss, "rollout_tokens": rollouts, "stop_tokens": stops}


def plain_prefixes(block: Sequence[Prefix]) -> list[dict[str, Any]]:
    """Prefixes as plain values, for a checkpoint."""
    return [
        {"key": p.question.key, "number": p.number, "prompt": list(p.prompt), "thinking": list(p.thinking)}
        for p in block
    ]


def prefixes_from(rows: Sequence[dict[str, Any]], questions: Sequence[Question]) -> list[Prefix]:
    """What `plain_prefixes` wrote."""
    known = {question.key: question for question in questions}
    return [
        Prefix(known[row["key"]], row["number"], tuple(row["prompt"]), tuple(row["thinking"])) for row in rows
    ]
