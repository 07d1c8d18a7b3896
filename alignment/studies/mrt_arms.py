"""The arms of the MRT study: how each changes the base model, and how all are measured."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignment.mrt import curves
from alignment.mrt.decoding import Decoder
from alignment.mrt.extrapolate import extended
from alignment.mrt.prover import Judged, Prover
from alignment.mrt.rl import Form, StepOptions
from alignment.mrt.rl_steps import Plan, tokens_of, train_steps
from alignment.mrt.rounds import RoundOptions, figures, select, training_rows
from alignment.mrt.star import Rule
from alignment.mrt.styles import episode_questions, episode_style
from alignment.mrt.updates import Updates, finetune
from alignment.studies.mrt_world import WINDOW, BaseRecipe
from codegen_eval.tasks.episodes import EpisodeTask

GRID = tuple(range(0, 61, 3))
"""Tokens at which curves are kept."""
TRAINING, EVALUATION = 1, 2
"""Which of a seed's problems are meant."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything one seed takes.

    Attributes:
        task: Of the problems.
        base: Of the model that all arms start from.
        rounds: Of sampling and fine-tuning.
        questions: A round.
        traces: Of each.
        stops: Forced stops behind a prefix.
        updates: A round.
        batch: Rows an update.
        learning_rate: Of fine-tuning.
        regret_budget: Tokens, for the rule `regret`.
        rl_steps: Updates of the on-policy arms.
        rl_questions: Prompts a step.
        rl_learning_rate: Of the on-policy arms.
        alpha: Weight of progress in their rewards.
        eval_questions: Problems to measure on.
        eval_traces: Of each.
        extensions: Times that thinking is made to go on, for the extrapolated curves.
        thinking_length: Most tokens of a trace.
    """

    task: EpisodeTask = field(default_factory=EpisodeTask)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    rounds: int = 2
    questions: int = 250
    traces: int = 4
    stops: int = 4
    updates: int = 60
    batch: int = 48
    learning_rate: float = 5e-4
    regret_budget: float = 30.0
    rl_steps: int = 40
    rl_questions: int = 16
    rl_learning_rate: float = 3e-4
    alpha: float = 1.0
    eval_questions: int = 150
    eval_traces: int = 2
    extensions: int = 3
    thinking_length: int = 84


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens that an arm had the model write: in traces, and in forced answers."""

    trace_tokens: int = 0
    stop_tokens: int = 0


def prover_of(model: Any, tokenizer: Any, sizes: Sizes) -> Prover:
    """The prover of the episode task: temperature 1, answers of two digits and an end."""
    decoder = Decoder(model, frozenset([tokenizer.eos_token_id]))
    return Prover(decoder, tokenizer, episode_style(), min(sizes.thinking_length, WINDOW - 16), 3)


def star(rule: Rule) -> Callable[[Any, Any, Sizes, int], tuple[Any, Spent]]:
    """An arm of rounds of fine-tuning on what the rule keeps."""

    def arm(base: Any, tokenizer: Any, sizes: Sizes, seed: int) -> tuple[Any, Spent]:
        model, spent = copy.deepcopy(base), Spent()
        options = RoundOptions(sizes.traces, sizes.stops, rule, sizes.regret_budget)
        for number in range(sizes.rounds):
            draws = 1000 * seed + 10 * number
            questions = episode_questions(sizes.task, 100 * draws + TRAINING, sizes.questions)
            rows = select(prover_of(model, tokenizer, sizes), questions, options, draws)
            told = figures(rows)
            spent = Spent(
                spent.trace_tokens + int(told["trace_tokens"]), spent.stop_tokens + int(told["stop_tokens"])
            )
            updates = Updates(model, learning_rate=sizes.learning_rate)
            finetune(
                updates,
                training_rows(rows),
                steps=sizes.updates,
                batch=sizes.batch,
                micro_rows=sizes.batch // 3,
                seed=draws + 2,
            )
        return model, spent

    return arm


def policy_gradient(form: Form) -> Callable[[Any, Any, Sizes, int], tuple[Any, Spent]]:
    """An arm of on-policy steps with one form of MRT's reward, or the outcome alone."""

    def arm(base: Any, tokenizer: Any, sizes: Sizes, seed: int) -> tuple[Any, Spent]:
        model, spent = copy.deepcopy(base), [0, 0]
        options = StepOptions(form, sizes.alpha if form in ("bonus", "mixed") else 0.0, stops=sizes.stops)
        plan = Plan(sizes.rl_steps, sizes.rl_questions, seed=1000 * seed + 300)
        count = min(sizes.rl_steps * sizes.rl_questions, 1000)
        questions = episode_questions(sizes.task, 100 * plan.seed + TRAINING, count)

        def note(updates: Updates, block: Any, groups: Any, loss: float | None) -> None:
            for i, tokens in enumerate(tokens_of(groups)):
                spent[i] += tokens

        train_steps(
            prover_of(model, tokenizer, sizes),
            Updates(model, learning_rate=sizes.rl_learning_rate),
            questions,
            options,
            plan,
            after=note,
        )
        return model, Spent(*spent)

    return arm


def unchanged(base: Any, tokenizer: Any, sizes: Sizes, seed: int) -> tuple[Any, Spent]:
    """The arm that trains nothing."""
    return base, Spent()


ARMS: dict[str, Callable[[Any, Any, Sizes, int], tuple[Any, Spent]]] = {
    "base": unchanged,
    "star": star("outcome"),
    "star-shortest": star("shortest"),
    "mrt-star": star("regret"),
    "mrt-star-progress": star("progress"),
    "rl": policy_gradient("outcome"),
    "mrt-rl": policy_gradient("bonus"),
    "mrt-rl-mixed": policy_gradient("mixed"),
    "mrt-rl-termination": policy_gradient("termination"),
}


def measured(
    model: Any, tokenizer: Any, sizes: Sizes, seed: int, budgets: tuple[float, ...]
) -> dict[str, Any]:
    """What one model is worth on a seed's evaluation problems, the same for every arm."""
    prover = prover_of(model, tokenizer, sizes)
    draws = 1000 * seed + 500
    questions = episode_questions(sizes.task, 100 * draws + EVALUATION, sizes.eval_questions)
    sampled = prover.sample(questions, count=sizes.eval_traces, seed=draws)
    flat = [trace for of in sampled for trace in of]
    groups = _grouped(prover.judge(flat, stops=sizes.stops, seed=draws + 1), sizes.eval_traces)
    longer = extended(prover, flat, times=sizes.extensions, seed=draws + 2)
    beyond = _grouped(prover.judge(longer, stops=sizes.stops, seed=draws + 3), sizes.eval_traces)
    return {
        "accuracy": float(curves.accuracies(groups).mean()),
        "episodes": float(curves.episode_counts(groups).mean()),
        "tokens": float(np.mean([len(trace.thinking) for trace in flat])),
        "finished": float(np.mean([trace.finished for trace in flat])),
        "regret": dict(zip(map(str, budgets), _means(curves.regrets(groups, budgets)), strict=True)),
        "regret_beyond": dict(zip(map(str, budgets), _means(curves.regrets(beyond, budgets)), strict=True)),
        "j": _means(curves.j_at(groups, GRID)),
        "j_beyond": _means(curves.j_at(beyond, GRID)),
        "accuracy_at": _means(curves.accuracy_at(groups, GRID)),
        "episode_regret": _means(curves.episode_regrets(groups, 12)),
        "accuracy_beyond": float(curves.accuracies(beyond).mean()),
        "tokens_beyond": float(np.mean([len(trace.thinking) for trace in longer])),
    }


def _grouped(judged: list[Judged], size: int) -> list[list[Judged]]:
    return [judged[i : i + size] for i in range(0, len(judged), size)]


def _means(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values).mean(axis=0)]
