"""A small model of the episode task, trained in seconds once a process, and traces made by hand."""

from __future__ import annotations

from functools import cache
from typing import Any

from alignment.mrt.decoding import Decoder
from alignment.mrt.prover import Judged, Prover, Stop
from alignment.mrt.styles import episode_style
from alignment.mrt.traces import Question, Trace
from alignment.studies.mrt_world import BaseRecipe, train_base
from codegen_eval.tasks.episodes import EpisodeTask, answer


@cache
def trained() -> tuple[Any, Any]:
    """It writes the format and guesses: a few of its answers are right."""
    recipe = BaseRecipe(steps=100, rows=24, learning_rate=8e-3, width=32, layers=1)
    return train_base(recipe, EpisodeTask(idle=0.2), 0)


def prover(**options: Any) -> Prover:
    model, tokenizer = trained()
    decoder = Decoder(model, frozenset([tokenizer.eos_token_id]), **options)
    return Prover(decoder, tokenizer, episode_style(), 40, 3)


def judged(
    rewards: list[list[float | None]],
    *,
    outcome: float | None = 1.0,
    prompt: str = "31847=",
    number: int = 0,
    ended: bool = True,
) -> Judged:
    """A judged trace of 3 tokens an episode, with these rewards of the stops behind each prefix."""
    episodes = len(rewards) - 1
    question = Question(prompt, prompt, answer(prompt))
    trace = Trace(
        question,
        number,
        (90, 91),
        tuple(range(3 * episodes)),
        (80, 81, 82),
        ended,
        tuple(3 * (i + 1) for i in range(episodes)),
        outcome,
    )
    stops = tuple(tuple(Stop((70, i), True, r) for i, r in enumerate(of)) for of in rewards)
    return Judged(trace, stops)
