"""Steps of a policy for the lockstep search: where they end, and the sampler over Hugging Face models.

All children of all nodes that are asked for are drawn in one batch, token ids in and token ids out. A child's
random numbers come from its node's seed and its place alone, so a tree does not depend on those beside it: in
float64 with sdpa attention it is the same to the last bit, one by one or in a batch. In shorter formats sums
of another batch differ in their last digits, which now and then tips a token (docs/search.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alignment.search.kv_store import KVStore
from alignment.search.lockstep import Request
from alignment.search.steps import StepSplitter, token_steps
from alignment.search.tree import Step
from codegen_eval.errors import CodealignError
from codegen_eval.generation.hf import end_tokens

_LOGP_DIGITS = 9
_TEXTS = 1024  # whose places are remembered: siblings often write the same
_CONTEXT = 4  # tokens before a step with which it is decoded: some tokenizers drop a leading blank


@dataclass(frozen=True, slots=True)
class StepSampling:
    """How steps are drawn and where they end.

    Attributes:
        splitter: Says where steps end (`steps.split_lines`, `steps.split_statements`, ...), given the text of
            prompt and answer so far.
        step_tokens: Most tokens sampled for a step; one that has no end by then ends there.
        answer_tokens: Most tokens of an answer; it ends there.
        temperature: Divides the logits; 0 is greedy. Log-probabilities are those of temperature 1.
        top_p: Nucleus.
        stop: Texts that end an answer; they are not part of its text.
        trigger: The splitter is asked only once a step's text holds this, for it is called after every token;
            both splitters end steps at line breaks. Empty: always.
    """

    splitter: StepSplitter
    step_tokens: int = 64
    answer_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    trigger: str = "\n"

    def __post_init__(self) -> None:
        for name in ("step_tokens", "answer_tokens"):
            if getattr(self, name) < 1:
                raise CodealignError(f"{name} is {getattr(self, name)}: give 1 or more")
        if not 0 <= self.temperature < float("inf"):
            raise CodealignError(f"temperature is {self.temperature}: give 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise CodealignError(f"top_p is {self.top_p}: give a number above 0, at most 1")
        if "" in self.stop:
            raise CodealignError("a stop text is empty: it would end every answer before its first token")

    def limit(self, request: Request) -> int:
        """Most tokens of one child."""
        left = max(self.answer_tokens - request.answered, 1)
        return left if request.last else min(self.step_tokens, left)

    def most(self, request: Request) -> int:
        """Most tokens that a request can cost."""
        return self.limit(request) * request.breadth


def child_uniforms(request: Request, length: int) -> NDArray[np.float64]:
    """Random numbers in [0, 1) of a request's children, (breadth, length), from its seed and their places."""
    roots = [np.random.SeedSequence(request.seed, spawn_key=(place,)) for place in range(request.breadth)]
    return np.stack([np.random.default_rng(root).random(length) for root in roots])


class StepEnds:
    """Decides after every token whether a step is over, and makes the step of what was drawn.

    Args:
        tokenizer: The policy's.
        ends: Token ids that end an answer.
        sampling: How steps end.
    """

    def __init__(self, tokenizer: Any, ends: set[int], sampling: StepSampling) -> None:
        self.tokenizer = tokenizer
        self.ends = ends
        self.sampling = sampling
        self.splitter = lru_cache(_TEXTS)(sampling.splitter)
        self.fast = getattr(tokenizer, "backend_tokenizer", None)
        self.pieces: dict[int, str] = {}
        self.before: dict[tuple[int, ...], int] = {}

    def kept(self, request: Request, tokens: Sequence[int]) -> int | None:
        """How many tokens the step has, None while it goes on."""
        if tokens[-1] in self.ends or len(tokens) >= self.sampling.limit(request):
            return self.cut(request, tokens)
        if self.sampling.stop and self._stopped(self.text(request, tokens)) is not None:
            return len(tokens)
        if request.last or not self._asks(tokens):
            return None
        return self._boundary(request, tokens)

    def cut(self, request: Request, tokens: Sequence[int]) -> int:
        """How many tokens belong to a step that has been drawn up to its limit, an end token or further."""
        for place, token in enumerate(tokens):
            if token in self.ends:
                tokens = tokens[: place + 1]
                break
        if request.last:
            return len(tokens)
        return self._boundary(request, tokens) or len(tokens)

    def step(self, request: Request, tokens: Sequence[int], logps: Sequence[float], sampled: int) -> Step:
        """The step of these tokens, without what was cut off.

        Args:
            request: What was asked for.
            tokens: Those that are kept.
            logps: Of each of them.
            sampled: How many were drawn.
        """
        ended = tokens[-1] in self.ends
        text = self.text(request, tokens[:-1] if ended else tokens)
        stop = self._stopped(text) if self.sampling.stop else None
        full = request.answered + len(tokens) >= self.sampling.answer_tokens
        return Step(
            tokens=tuple(tokens),
            logp=round(float(sum(logps)), _LOGP_DIGITS),
            text=text if stop is None else text[:stop],
            terminal=ended or stop is not None or full,
            sampled=sampled,
        )

    def text(self, request: Request, tokens: Sequence[int]) -> str:
        """What the tokens say behind the prefix."""
        before = request.prefix[-_CONTEXT:]
        if before not in self.before:
            self.before[before] = len(self._decode(before))
        return self._decode([*before, *tokens])[self.before[before] :]

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str
        if self.fast is not None:  # the same without a wrapper that costs several times the work
            text = self.fast.decode(list(tokens), skip_special_tokens=False)
        else:
            text = self.tokenizer.decode(
                list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return text

    def _asks(self, tokens: Sequence[int]) -> bool:
        trigger = self.sampling.trigger
        if len(trigger) > 1:
            return trigger in self._decode(tokens)
        for token in tokens:
            if token not in self.pieces:
                self.pieces[token] = self._decode([token])
            if trigger in self.pieces[token]:
                return True
        return False

    def _boundary(self, request: Request, tokens: Sequence[int]) -> int | None:
        """Tokens up to the first certain end of a step behind the prefix."""
        spoken = [token for token in tokens if token not in self.ends]
        before = len(request.text)
        ends = self.splitter(request.text + self.text(request, spoken))
        first = next((end - before for end in ends if end > before), None)
        if first is None:
            return None
        starts = [0, *(len(self.text(request, spoken[:i])) for i in range(1, len(spoken)))]
        # Half a character can be longer than the whole one: starts must not fall.
        offsets = [(min(starts[i:]), 0) for i in range(len(starts))]
        return token_steps([first], offsets)[0][1]

    def _stopped(self, text: str) -> int | None:
        """Where the earliest stop text begins."""
        return min((place for stop in self.sampling.stop if (place := text.find(stop)) >= 0), default=None)


class StepSampler(Protocol):
    """What the rounds need of a sampler.

    Attributes:
        sampling: How steps are drawn and where they end.
        steps: The decision where they end, with the tokenizer.
    """

    sampling: StepSampling
    steps: StepEnds

    def most(self, request: Request) -> int:
        """Most tokens that a request can cost."""

    def __call__(self, requests: Sequence[Request]) -> list[list[Step]]:
        """The children of all requests, in order, equal ones included."""


class HFSampler:
    """Draws steps with a loaded model; give it to `lockstep.search` as `sample`, its `most` as `most`.

    Args:
        model: A causal language model; every layer must attend in full (the prefix store and the layout of
            the rows need it), with sdpa or eager attention.
        tokenizer: Its tokenizer.
        sampling: How steps are drawn and where they end.
        cache_mb: Memory for keys and values of prefixes, in MiB; 0 computes every prefix anew.
        rows: Most continuations in a batch.

    Attributes:
        sampled: Tokens drawn so far, cut off ones included.
        computed: Tokens of prefixes that went through the model.
        reused: Tokens of prefixes that were taken from the store instead.

    Raises:
        CodealignError: For a model that the layout does not fit, or sizes that cannot be.
    """

    def __init__(
        self, model: Any, tokenizer: Any, sampling: StepSampling, *, cache_mb: float = 512.0, rows: int = 256
    ) -> None:
        from alignment.preference.scoring import check_masked

        if not cache_mb >= 0 or rows < 1:
            raise CodealignError(f"cache_mb {cache_mb} must be 0 or more, rows {rows} 1 or more")
        check_masked(model.config, "step search")
        self.model = model.eval()
        self.sampling = sampling
        self.rows = rows
        self.store = KVStore(cache_mb)
        self.steps = StepEnds(tokenizer, end_tokens(model.generation_config, tokenizer), sampling)
        self.sampled = self.computed = self.reused = 0

    def most(self, request: Request) -> int:
        """Most tokens that a request can cost."""
        return self.sampling.most(request)

    def __call__(self, requests: Sequence[Request]) -> list[list[Step]]:
        """The children of all requests, in order, equal ones included.

        Raises:
            CodealignError: For a prefix of no tokens, or one that leaves no room in the model's window.
        """
        window = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        for request in requests:
            check_window(request, self.sampling.limit(request), window)
        # Rows of like length together waste less; the order has no influence on what is drawn.
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prefix))
        found: list[list[Step]] = [[] for _ in requests]
        part: list[int] = []
        for i in order:
            if part and sum(requests[j].breadth for j in (*part, i)) > self.rows:
                self._draw([(j, requests[j]) for j in part], found)
                part = []
            part.append(i)
        if part:
            self._draw([(j, requests[j]) for j in part], found)
        return found

    def _draw(self, part: Sequence[tuple[int, Request]], found: list[list[Step]]) -> None:
        from alignment.search.decoding import Work, draw

        rows = [(place, request) for place, request in part for _ in range(request.breadth)]
        uniforms = np.zeros((len(rows), max(self.sampling.limit(request) for _, request in part)))
        first = 0
        for _, request in part:
            # As many as the request itself can need: its numbers must not depend on the others' limits.
            own = child_uniforms(request, self.sampling.limit(request))
            uniforms[first : first + request.breadth, : own.shape[1]] = own
            first += request.breadth
        works = [Work(request.prefix, request.breadth, store=not request.last) for _, request in part]
        drawn = draw(
            self.model,
            works,
            self.store,
            uniforms,
            lambda row, tokens: self.steps.kept(rows[row][1], tokens),
            temperature=self.sampling.temperature,
            top_p=self.sampling.top_p,
        )
        for (place, request), one in zip(rows, drawn, strict=True):
            kept = one.kept
            found[place].append(
                self.steps.step(request, one.tokens[:kept], one.logps[:kept], len(one.tokens))
            )
            self.sampled += len(one.tokens)
        for work in works:
            self.reused += work.taken
            self.computed += len(work.prefix) - work.taken


def check_window(request: Request, room: int, window: int | None) -> None:
    """Refuses a request that cannot be answered.

    Args:
        request: With its prefix.
        room: Most tokens of one child.
        window: Of the model, in tokens; None where it is not known.

    Raises:
        CodealignError: For a prefix of no tokens, or one that leaves no room.
    """
    if not request.prefix:
        raise CodealignError("a prompt has no token: nothing predicts the first one of its answer")
    if window is not None and len(request.prefix) + room > window:
        raise CodealignError(
            f"a prefix of {len(request.prefix)} tokens with up to {room} more does not fit the model's "
            f"window of {window}: leave long prompts out, or lower answer_tokens or step_tokens"
        )
