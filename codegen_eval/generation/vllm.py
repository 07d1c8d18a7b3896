"""Generation with vLLM in this process (Kwon et al. 2023, arXiv 2309.06180).

Every sample is a request of its own with a seed of its own, so that it does not depend on how many others
are drawn. vLLM batches as it pleases, and sums in another order may tip a token: equal text is likely on one
machine, not promised as it is by our own loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import GENERATORS, Backend, BackendOptions, Batch, Drawn, Request, Sampling
from codegen_eval.generation.hf import check_folder
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.records import cut_at_stop


@GENERATORS.register("vllm")
def open_vllm(options: BackendOptions) -> Backend:
    """The engine vLLM in this process: `model`, `dtype`, `chat`, `engine`. It loads the model when needed.

    Raises:
        CodealignError: If vLLM is not installed, or the folder holds no model.
    """
    if find_spec("vllm") is None:
        raise CodealignError(
            "the backend vllm needs vLLM: pip install 'codealign[vllm]', or use --backend hf, "
            "or --backend openai with a running server"
        )
    check_folder(options.model)
    return VLLMBackend(options)


class VLLMBackend:
    """One engine, loaded with the first batch."""

    single = False

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self._engine: Any = None

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        """Yields the batches in their order.

        Raises:
            CodealignError: If vLLM cannot load the model or takes a prompt for too long.
        """
        for number, requests in batches:
            yield number, self._draw(requests, sampling)

    def _draw(self, requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        wanted = [(request, request.first + i) for request in requests for i in range(request.count)]
        if not wanted:
            return [[] for _ in requests]
        engine = self._loaded()
        prompts = [request.prompt for request, _ in wanted]
        settings = [_settings(sampling, request.key, sample) for request, sample in wanted]
        try:
            if self._options.chat:
                messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
                outputs = engine.chat(messages, settings, use_tqdm=False)
            else:
                outputs = engine.generate(prompts, settings, use_tqdm=False)
        except Exception as error:
            # A prompt longer than the window, a tokenizer without a chat template: a ValueError, or since
            # vLLM 0.31 a class of its own.
            if not isinstance(error, ValueError) and type(error).__name__ != "VLLMValidationError":
                raise
            raise CodealignError(f"vLLM refuses a prompt of {requests[0].key!r} and after: {error}") from None
        texts = iter(cut_at_stop(output.outputs[0].text, sampling.stop) for output in outputs)
        return [[next(texts) for _ in range(request.count)] for request in requests]

    def _loaded(self) -> Any:
        if self._engine is None:
            from vllm import LLM

            options = self._options
            try:
                self._engine = LLM(model=options.model, dtype=options.dtype, **{"seed": 0, **options.engine})
            except (ValueError, TypeError, OSError, RuntimeError) as error:
                message = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
                raise CodealignError(f"vLLM cannot load {options.model}: {message}") from error
        return self._engine


def _settings(sampling: Sampling, key: str, sample: int) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        n=1,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
        stop=list(sampling.stop),
        seed=sample_seed(sampling.seed, key, sample),
    )
