"""Answers of the policy as it is now: what a sampler is, and the one that decodes with the trained model.

Sample i of the prompt in slot k of step s depends on (seed, s, k, i) and the weights alone: not on how
prompts are batched or spread over processes (but for rounding, where a batch of another size sums in another
order).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from codegen_eval.generation.decoding import Drawing, Drawn, decode
from codegen_eval.generation.hf import Stops, end_tokens
from codegen_eval.generation.sampling import sample_generator
from codegen_eval.records import cut_at_stop


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of one prompt.

    Attributes:
        key: Names it in the seeds: step and slot.
        prompt_ids: Its tokens.
        count: Sampled answers.
        greedy: Whether the greedy answer is wanted too.
    """

    key: str
    prompt_ids: Sequence[int]
    count: int
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        ids: Tokens as drawn, the end token among them.
        text: What rewards see: without special tokens, cut at a stop text.
        ended: The model ended it; False where it was cut at the length limit.
        logps: Of each token by the sampler, in nats; empty where it does not say.
    """

    ids: list[int]
    text: str
    ended: bool
    logps: list[float]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are drawn.

    Attributes:
        temperature: Above 0; greedy answers are asked for apart.
        top_p: Nucleus of the samples.
        max_new_tokens: Where an answer is cut.
        stop: Texts that end an answer.
        seed: See the head of this module.
        logps: Whether the sampler's log-probabilities are wanted.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    stop: tuple[str, ...]
    seed: int
    logps: bool = False


class Sampler(Protocol):
    """Draws answers of the policy.

    Attributes:
        exact: Its distribution is the trainer's own but for rounding; else the trainer demands importance
            correction, for which the answers must bring log-probabilities.
    """

    exact: bool

    def sync(self, model: Any) -> None:
        """Takes over the policy's weights; called before the answers of every step."""

    def draw(self, asks: Sequence[Ask], decoding: Decoding) -> list[list[Answer]]:
        """For each ask its samples in order, the greedy answer last where it was asked for."""
        ...


class HFSampler:
    """Decodes with the trained model itself, sampled and greedy answers in one batch.

    Args:
        tokenizer: The model's.
        autocast: Makes the context in which the model computes, as in training.
    """

    exact = True

    def __init__(
        self,
        tokenizer: Any,
        autocast: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.tokenizer = tokenizer
        self.autocast = autocast
        self.model: Any = None

    def sync(self, model: Any) -> None:
        """Keeps the model: its weights are the policy's at any time."""
        self.model = model

    def draw(self, asks: Sequence[Ask], decoding: Decoding) -> list[list[Answer]]:
        """As `Sampler.draw`."""
        model, stops = self.model, Stops(self.tokenizer, decoding.stop)
        drawings = [
            Drawing(
                ask.prompt_ids,
                [sample_generator(decoding.seed, ask.key, i) for i in range(ask.count)],
                greedy=ask.greedy,
            )
            for ask in asks
        ]
        training = model.training
        model.eval()  # a checkpointed model in training mode has no cache
        try:
            with torch.no_grad(), self.autocast():
                drawn = decode(
                    model,
                    drawings,
                    ends=end_tokens(model.generation_config, self.tokenizer),
                    max_new_tokens=decoding.max_new_tokens,
                    temperature=decoding.temperature,
                    top_p=decoding.top_p,
                    stopped=stops.reached if decoding.stop else None,
                    logps=decoding.logps,
                )
        finally:
            model.train(training)
        return [answers_of(samples, self.tokenizer, decoding.stop) for samples in drawn]


def answers_of(samples: Sequence[Drawn], tokenizer: Any, stop: Sequence[str]) -> list[Answer]:
    """Drawn tokens with their text."""
    texts = tokenizer.batch_decode(
        [sample.ids for sample in samples], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return [
        Answer(sample.ids, cut_at_stop(text, stop), sample.ended, sample.logps)
        for sample, text in zip(samples, texts, strict=True)
    ]
