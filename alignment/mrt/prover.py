"""The meta-prover of MRT: J after every prefix of a trace, from answers that the model is forced to give.

The prover is the model itself, stopped by force (arXiv 2503.07572). It must not be the model thinking on: J
would then be a martingale, and the expected progress of every episode 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alignment.mrt.decoding import Completion, Decoder, Ids
from alignment.mrt.progress import FloatArray, j_curve
from alignment.mrt.traces import (
    Question,
    Style,
    Trace,
    checked,
    decoded,
    episode_cuts,
    read_completion,
)
from codegen_eval.errors import CodealignError


@dataclass(frozen=True, slots=True)
class Stop:
    """One forced stop: the answer's ids, whether it ended within the length, and its reward."""

    ids: Ids
    ended: bool
    reward: float | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A trace with the forced stops behind each of its prefixes; prefix 0 is the empty one."""

    trace: Trace
    stops: tuple[tuple[Stop, ...], ...]

    @property
    def places(self) -> tuple[int, ...]:
        """Tokens of thinking in each prefix, (prefixes,)."""
        return (0, *self.trace.cuts)

    @property
    def rewards(self) -> list[list[float | None]]:
        """Rewards of the stops, by prefix."""
        return [[stop.reward for stop in of] for of in self.stops]

    @property
    def j(self) -> FloatArray:
        """J after each prefix, (prefixes,).

        Raises:
            CodealignError: Where no stop behind a prefix has a known reward.
        """
        return j_curve(self.rewards)


@dataclass(frozen=True, slots=True)
class Prover:
    """A decoder with the text it works on.

    Attributes:
        decoder: Model and sampling.
        tokenizer: Of the model.
        style: How its thinking reads.
        thinking_length: Most new tokens of a trace.
        answer_length: Most tokens of a forced answer.
    """

    decoder: Decoder
    tokenizer: Any
    style: Style
    thinking_length: int
    answer_length: int

    def prompt_ids(self, question: Question) -> Ids:
        """Token ids of the prompt.

        Raises:
            CodealignError: For a prompt without tokens.
        """
        ids = tuple(self.tokenizer.encode(question.prompt))
        if not ids:
            raise CodealignError(f"the prompt of {question.key!r} has no tokens")
        return ids

    @property
    def stop_ids(self) -> Ids:
        """Token ids of the forced stop."""
        return tuple(self.tokenizer.encode(self.style.stop, add_special_tokens=False))

    @property
    def end(self) -> int:
        """Id of the token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    def sample(self, questions: Sequence[Question], *, count: int, seed: int) -> list[list[Trace]]:
        """`count` traces of each question."""
        prompts = [self.prompt_ids(question) for question in questions]
        keys = [question.key for question in questions]
        drawn = self.decoder.complete(prompts, keys, count=count, length=self.thinking_length, seed=seed)
        return [
            [read_completion(self.tokenizer, self.style, q, i, prompt, c) for i, c in enumerate(of)]
            for q, prompt, of in zip(questions, prompts, drawn, strict=True)
        ]

    def read(
        self, question: Question, number: int, prompt: Ids, completion: Completion, *, before: Ids
    ) -> Trace:
        """The trace of a completion that thinks on behind `before`: episodes that were there come first."""
        new = read_completion(self.tokenizer, self.style, question, number, prompt, completion)
        old = episode_cuts(self.tokenizer, self.style, before)
        cuts = (*old, *(len(before) + cut for cut in new.cuts))
        return replace(new, thinking=(*before, *new.thinking), cuts=cuts)

    def judge(self, traces: Sequence[Trace], *, stops: int, seed: int) -> list[Judged]:
        """J behind every prefix of every trace, from `stops` forced answers each.

        Raises:
            CodealignError: For fewer than one stop.
        """
        if stops < 1:
            raise CodealignError(f"stops is {stops}: give 1 or more forced answers a prefix")
        answers = self.decoder.behind(
            [trace.prompt + trace.thinking for trace in traces],
            [[len(trace.prompt) + place for place in (0, *trace.cuts)] for trace in traces],
            [f"{trace.question.key}/{trace.number}" for trace in traces],
            suffix=self.stop_ids,
            count=stops,
            length=self.answer_length,
            seed=seed,
        )
        return [
            Judged(trace, tuple(tuple(self.graded(trace.question, a) for a in of) for of in by_prefix))
            for trace, by_prefix in zip(traces, answers, strict=True)
        ]

    def graded(self, question: Question, answer: Completion) -> Stop:
        """A forced answer with its reward; one that did not end in time is wrong."""
        reward: float | None = 0.0
        if answer.ended:
            text = decoded(self.tokenizer, answer.ids)
            reward = checked(self.style.grade(question, text), question)
        return Stop(answer.ids, answer.ended, reward)
