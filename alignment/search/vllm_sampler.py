"""Steps drawn by vLLM (Kwon et al. 2023, arXiv 2309.06180), whose prefix cache keeps what nodes share.

The engine cannot be asked after every token where a step ends. So a child is drawn up to the next text at
which the splitter could find an end (`StepSampling.trigger`; up to the step's limit where there is none);
then its tokens are gone through one by one, as the sampler over Hugging Face models does while it draws. A
child that is not over yet is asked for again with its tokens behind the prefix, and the cache holds all but
the last block of them. What was drawn behind the end of a step is cut off, and counted as sampled.

Every child has seeds of its own, from its node's and its place, so a tree does not depend on those beside it
but for sums of another batch, which now and then tip a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
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
    turns: int = 0
    kept: int = 0

    @property
    def seed(self) -> int:
        """Of the next turn."""
        key = np.random.SeedSequence(self.request.seed, spawn_key=(self.place, self.turns))
        return int(key.generate_state(1)[0])


class VLLMStepSampler:
    """Draws steps with an engine; give it to `lockstep.search` as `sample`, its `most` as `most`.

    Args:
        engine: vLLM's `LLM`, with its default `logprobs_mode` (raw: those of temperature 1).
        tokenizer: The policy's.
        ends: Token ids that end an answer.
        sampling: How steps are drawn and where they end.
        window: Most tokens that the engine takes; None where it is not known.

    Attributes:
        sampled: Tokens drawn so far, cut off ones included.
        computed: Tokens of prefixes that went through the model; a child's own count where it went on.
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

    def most(self, request: Request) -> int:
        """Most tokens that a request can cost."""
        return self.sampling.most(request)

    def __call__(self, requests: Sequence[Request]) -> list[list[Step]]:
        """The children of all requests, in order, equal ones included.

        Raises:
            CodealignError: For a prefix of no tokens, one that leaves no room in the window, or one that vLLM
                refuses.
        """
        for request in requests:
            check_window(request, self.sampling.limit(request), self.window)
        children = [[_Child(request, place) for place in range(request.breadth)] for request in requests]
        going = [child for family in children for child in family]
        while going:
            self._turn(going)
            going = [child for child in going if not child.kept]
        return [[self._step(child) for child in family] for family in children]

    def _turn(self, going: Sequence[_Child]) -> None:
        """Draws each child up to the next place at which it could end."""
        prompts = [{"prompt_token_ids": [*child.request.prefix, *child.tokens]} for child in going]
        with refusals("a prefix"):
            outputs = self.engine.generate(prompts, [self._settings(c) for c in going], use_tqdm=False)
        for child, prompt, output in zip(going, prompts, outputs, strict=True):
            cached = getattr(output, "num_cached_tokens", None) or 0
            self.reused += cached
            self.computed += len(prompt["prompt_token_ids"]) - cached
            self._take(child, output.outputs[0])

    def _settings(self, child: _Child) -> Any:
        from vllm import SamplingParams

        sampling = self.sampling
        triggers = [sampling.trigger] if sampling.trigger and not child.request.last else []
        sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": child.seed}
        return SamplingParams(
            n=1,
            max_tokens=sampling.limit(child.request) - len(child.tokens),
            stop=[*sampling.stop, *triggers],
            stop_token_ids=sorted(self.steps.ends),
            logprobs=0,  # the drawn token's alone
            **(sampled if sampling.temperature else {"temperature": 0.0}),
        )

    def _take(self, child: _Child, output: Any) -> None:
        """Adds what was drawn and says whether, and where, the step is over."""
        begun = len(child.tokens)
        child.tokens += output.token_ids
        child.logps += [
            float(step[token].logprob) for token, step in zip(output.token_ids, output.logprobs, strict=True)
        ]
        child.turns += 1
        self.sampled += len(child.tokens) - begun
        for count in range(begun + 1, len(child.tokens) + 1):
            kept = self.steps.kept(child.request, child.tokens[:count])
            if kept:
                child.kept = kept
                return

    def _step(self, child: _Child) -> Step:
        kept = child.kept
        logps = [min(value, 0.0) for value in child.logps[:kept]]
        return self.steps.step(child.request, child.tokens[:kept], logps, len(child.tokens))
