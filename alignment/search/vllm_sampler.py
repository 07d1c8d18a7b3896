"""Steps drawn by vLLM (Kwon et al. 2023, arXiv 2309.06180), whose prefix cache keeps what nodes share.

The engine is run a step at a time and hands out every token as it comes. After each one the splitter is
asked, as the sampler over Hugging Face models does while it draws; a child whose step is over is taken out of
the engine's batch at once. So nothing is drawn behind the end of a step but what shows that it was one, and
no child is ever asked for twice. Requests join those that are on the way (`lockstep.Stream`), so that the
engine's batch does not run empty behind the longest step of a call.

Every child has a seed of its own, from its node's and its place, so a tree does not depend on those beside it
but for sums of another batch, which now and then tip a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

from alignment.search.lockstep import Request
from alignment.search.sampler import StepEnds, StepSampling, check_window
from alignment.search.tree import Step
from codegen_eval.errors import CodealignError
from codegen_eval.generation.hf import check_folder, end_tokens, load_tokenizer
from codegen_eval.generation.vllm import check_versions, open_engine, refusals


def open_sampler(
    model: str, sampling: StepSampling, *, dtype: str = "auto", engine: Mapping[str, Any] | None = None
) -> VLLMStepSampler:
    """A sampler with an engine of its own, which ends with it.

    Args:
        model: Folder or hub id of the policy.
        sampling: How steps are drawn and where they end.
        dtype: Of the engine's weights.
        engine: Further arguments of vLLM's `LLM`; they win.

    Raises:
        CodealignError: If vLLM is not installed or of a version that was never tried, or cannot load it.
    """
    if find_spec("vllm") is None:
        raise CodealignError("sampling.use_vllm needs vLLM: pip install 'codealign[vllm]', or leave it out")
    check_versions()
    check_folder(model)
    arguments = {"model": model, "dtype": dtype, "seed": 0, "enable_prefix_caching": True, **(engine or {})}
    loaded = open_engine(arguments)
    tokenizer = load_tokenizer(model)
    settings = loaded.llm_engine.model_config
    generation = settings.try_get_generation_config()
    return VLLMStepSampler(
        loaded,
        tokenizer,
        end_tokens(SimpleNamespace(**generation), tokenizer),
        sampling,
        window=settings.max_model_len,
    )


@dataclass(slots=True)
class _Child:
    """One continuation on its way."""

    request: Request
    place: int
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    kept: int = 0

    @property
    def seed(self) -> int:
        """What its tokens are drawn with."""
        key = np.random.SeedSequence(self.request.seed, spawn_key=(self.place, 0))
        return int(key.generate_state(1)[0])


class VLLMStepSampler:
    """Draws steps with an engine; give it to `lockstep.search` as `sample`, its `most` as `most`.

    Args:
        engine: vLLM's `LLM`, with its default `logprobs_mode` (raw: those of temperature 1). While a call
            lasts nobody else may draw with it.
        tokenizer: The policy's.
        ends: Token ids that end an answer.
        sampling: How steps are drawn and where they end.
        window: Most tokens that the engine takes; None where it is not known.

    Attributes:
        sampled: Tokens drawn so far, cut off ones included.
        computed: Tokens of prefixes that went through the model, each child's counted.
        reused: Tokens of prefixes that came from the prefix cache.
    """

    def __init__(
        self,
        engine: Any,
        tokenizer: Any,
        ends: set[int],
        sampling: StepSampling,
        *,
        window: int | None = None,
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self.window = window
        self.steps = StepEnds(tokenizer, ends, sampling)
        self.sampled = self.computed = self.reused = 0
        self._numbers = count()
        self._going: dict[str, _Child] = {}
        self._families: list[tuple[Request, list[_Child]]] = []
        self._over: list[tuple[Request, list[Step]]] = []

    def most(self, request: Request) -> int:
        """Most tokens that a request can cost."""
        return self.sampling.most(request)

    def __call__(self, requests: Sequence[Request]) -> list[list[Step]]:
        """The children of all requests, in order, equal ones included.

        Raises:
            CodealignError: As `begin`.
        """
        found: dict[int, list[Step]] = {}
        asked = set(map(id, requests))
        try:
            self.begin(requests)
            while len(found) < len(asked):
                for request, steps in self._draw():
                    if id(request) in asked:
                        found[id(request)] = steps
                    else:  # an evaluator draws while its search has requests on the way
                        self._over.append((request, steps))
        except BaseException:
            self.drop()
            raise
        return [found[id(request)] for request in requests]

    def begin(self, requests: Sequence[Request]) -> None:
        """As `Stream.begin`.

        Raises:
            CodealignError: For a prefix of no tokens, one that leaves no room in the window, or one that vLLM
                refuses.
        """
        for request in requests:
            check_window(request, self.sampling.limit(request), self.window)
        for request in requests:
            # Rendered already, as vLLM calls it: the tokens are taken as they are.
            prompt = {"type": "token", "prompt_token_ids": list(request.prefix)}
            family = [_Child(request, place) for place in range(request.breadth)]
            for child in family:
                name = f"step-{next(self._numbers)}"
                with refusals("a prefix"):
                    self.engine.llm_engine.add_request(name, prompt, self._settings(child))
                self._going[name] = child
            self._families.append((request, family))

    def ended(self) -> list[tuple[Request, list[Step]]]:
        """As `Stream.ended`: runs the engine until all children of a request have their steps."""
        over, self._over = self._over, []
        return over or self._draw()

    def _draw(self) -> list[tuple[Request, list[Step]]]:
        core = self.engine.llm_engine
        while True:
            over = [family for family in self._families if all(child.kept for child in family[1])]
            if over:
                self._families = [f for f in self._families if not all(child.kept for child in f[1])]
                return [(request, [self._step(child) for child in children]) for request, children in over]
            if not core.has_unfinished_requests():
                raise CodealignError(f"vLLM dropped {len(self._going)} children without an end")
            done = [output.request_id for output in core.step() if self._take(output)]
            core.abort_request(done)  # does nothing for those that ended by themselves
            for name in done:
                del self._going[name]

    def drop(self) -> None:
        """As `Stream.drop`."""
        if self._going:
            self.engine.llm_engine.abort_request(list(self._going))
        self._going, self._families, self._over = {}, [], []

    def _settings(self, child: _Child) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self.sampling
        sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": child.seed}
        return SamplingParams(
            n=1,
            max_tokens=sampling.limit(child.request),
            stop_token_ids=sorted(self.steps.ends),
            logprobs=0,  # the drawn token's alone
            detokenize=False,  # `StepEnds` reads the tokens, stop texts too
            output_kind=RequestOutputKind.DELTA,
            **(sampled if sampling.temperature else {"temperature": 0.0}),
        )

    def _take(self, output: Any) -> bool:
        """Adds what was drawn for a child and says whether its step is over."""
        child = self._going.get(output.request_id)
        if child is None:
            return False
        if not child.tokens:
            cached = getattr(output, "num_cached_tokens", None) or 0
            self.reused += cached
            self.computed += len(child.request.prefix) - cached
        one = output.outputs[0]
        for token, step in zip(one.token_ids, one.logprobs, strict=True):
            child.tokens.append(token)
            child.logps.append(float(step[token].logprob))
            self.sampled += 1
            kept = self.steps.kept(child.request, child.tokens)
            if kept:
                child.kept = kept
                return True
        if output.finished:  # vLLM saw an end that we do not know
            child.kept = self.steps.cut(child.request, child.tokens)
        return bool(child.kept)

    def _step(self, child: _Child) -> Step:
        kept = child.kept
        logps = [min(value, 0.0) for value in child.logps[:kept]]
        return self.steps.step(child.request, child.tokens[:kept], logps, len(child.tokens))
