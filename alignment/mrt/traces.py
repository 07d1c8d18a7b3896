"""Traces: what a model thought, in episodes, and what it answered; how a kind of text is read.

A style says how thinking ends, what forces it to end, where episodes end, and which answers are right. All
else works on token ids: places found in the text are carried over to the tokens that were sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from alignment.mrt.decoding import Completion, Ids
from alignment.mrt.episodes import join_groups, split_episodes
from alignment.search.steps import token_steps
from codegen_eval.errors import CodealignError

Grader = Callable[["Question", str], float | None]
Splitter = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt with its right answer; `key` names it in seeds and files."""

    key: str
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Style:
    """How one kind of thinking reads.

    Attributes:
        close: Text with which the model ends its thinking.
        stop: Text that is put behind thinking to end it by force; it ends with `close`.
        split: Ends of the episodes of a text, in characters, the last one at its end.
        grade: Reward of an answer text in [0, 1]; None where nobody can say (a verifier that broke).
        extensions: Texts that, put in the place of `close`, make the model think on, used in turn; without
            any it is merely kept from writing the first token of `close`.
    """

    close: str
    stop: str
    split: Splitter
    grade: Grader
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.close or not self.stop.endswith(self.close):
            raise CodealignError(
                f"the text of a forced stop, {self.stop!r}, must end with what closes thinking, "
                f"{self.close!r}"
            )


@dataclass(frozen=True, slots=True)
class Trace:
    """One sampled answer.

    Attributes:
        question: What was asked.
        number: Of the sample.
        prompt: Token ids of the prompt.
        thinking: Token ids before the close.
        ending: Token ids from the close on, end token left out; empty where thinking never ended.
        ended: Whether an end token was drawn within the length.
        cuts: Tokens of thinking up to the end of each episode, rising; the last is all of it.
        outcome: Reward of the answer; 0 where there is none, None where nobody can say.
    """

    question: Question
    number: int
    prompt: Ids
    thinking: Ids
    ending: Ids
    ended: bool
    cuts: tuple[int, ...]
    outcome: float | None

    @property
    def finished(self) -> bool:
        """Whether thinking was closed and the answer ended, both within the length."""
        return self.ended and bool(self.ending)


def read_completion(
    tokenizer: Any, style: Style, question: Question, number: int, prompt: Ids, completion: Completion
) -> Trace:
    """The trace that a completion is."""
    ends = character_ends(tokenizer, completion.ids)
    text = decoded(tokenizer, completion.ids)
    place = text.find(style.close)
    closed = place >= 0
    split = completion.ids
    rest: Ids = ()
    if closed:
        # The token that holds the first character of the close opens the ending, whatever else it holds.
        first = next((i for i, end in enumerate(ends) if end > place), len(ends))
        split, rest = completion.ids[:first], completion.ids[first:]
    outcome: float | None = 0.0
    if closed and completion.ended:
        outcome = checked(style.grade(question, text[place + len(style.close) :]), question)
    cuts = episode_cuts(tokenizer, style, split)
    return Trace(question, number, tuple(prompt), tuple(split), tuple(rest), completion.ended, cuts, outcome)


def episode_cuts(tokenizer: Any, style: Style, thinking: Sequence[int]) -> tuple[int, ...]:
    """Tokens up to the end of each episode, rising, the last being all of them; none without thinking."""
    if not thinking:
        return ()
    starts = [0, *character_ends(tokenizer, thinking)]
    offsets = list(pairwise(starts))
    ends = style.split(decoded(tokenizer, thinking))
    return tuple(end for _, end in token_steps([e for e in ends if e < starts[-1]], offsets))


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of token ids, special tokens written out: what closes thinking is often one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # many times cheaper than the wrapper, which matters for answers of two tokens
        return str(backend.decode(list(ids), skip_special_tokens=False))
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def character_ends(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Where each token's text ends in the text of all, in characters.

    Tokens of an unfinished character count as empty until it is whole. A few tokens are decoded at a time, so
    that the cost is linear.
    """
    ends, total, anchor, read = [], 0, 0, 0
    for i in range(len(ids)):
        before, now = decoded(tokenizer, ids[anchor:read]), decoded(tokenizer, ids[anchor : i + 1])
        if len(now) > len(before) and not now.endswith("\ufffd"):
            total += len(now) - len(before)
            anchor, read = read, i + 1
        ends.append(total)
    return ends


def checked(reward: float | None, question: Question) -> float | None:
    """A grader's reward, if it is one.

    Raises:
        CodealignError: For a number outside [0, 1].
    """
    if reward is not None and not 0 <= reward <= 1:
        raise CodealignError(
            f"the answer to {question.key!r} was graded {reward}: a grader gives 0 to 1, or None"
        )
    return reward


def split_thinking(text: str, *, max_steps: int = 49, group_size: int = 1) -> list[int]:
    """Ends of the episodes of thinking by its paragraphs (`episodes.split_episodes`), in characters."""
    parts = text.split("\n\n")
    places, total = [], 0
    for part in parts:
        total += len(part) + 2
        places.append(min(total, len(text)))
    groups = join_groups(split_episodes(parts, max_steps=max_steps), group_size)
    return [places[end - 1] for _, end in groups]
