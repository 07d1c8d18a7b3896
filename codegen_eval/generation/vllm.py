"""Generation with vLLM in this process (Kwon et al. 2023, arXiv 2309.06180).

Every sample is a request of its own with a seed of its own, so that it does not depend on how many others
are drawn. vLLM batches as it pleases, and sums in another order may tip a token: equal text is likely on one
machine, not promised as it is by our own loop.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import GENERATORS, Backend, BackendOptions, Batch, Drawn, Request, Sampling
from codegen_eval.generation.hf import check_folder
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.records import cut_at_stop
from codegen_eval.versions import found, told

ADAPTER = "adapter_config.json"
_ON_CPU = {"enable_chunked_prefill": False}


@GENERATORS.register("vllm")
def open_vllm(options: BackendOptions) -> Backend:
    """The engine vLLM in this process: `model`, `dtype`, `chat`, `engine`. It loads the model when needed.

    A folder with an adapter of PEFT's is served on its base model, without merging it.

    Raises:
        CodealignError: If vLLM is not installed or of a version that was never tried, or the folder holds no
            model.
    """
    if find_spec("vllm") is None:
        raise CodealignError(
            "the backend vllm needs vLLM: pip install 'codealign[vllm]', or use --backend hf, "
            "or --backend openai with a running server"
        )
    check_versions()
    check_folder(options.model, adapter=True)
    return VLLMBackend(options)


def check_versions() -> None:
    """Refuses versions of vLLM that this backend was not made for.

    Raises:
        CodealignError: With what is installed and what is allowed.
    """
    (vllm,) = found(["vllm"])
    if not vllm.fits:
        raise CodealignError(
            f"vLLM {vllm.installed} does not fit: {vllm.library.allowed} is allowed, {vllm.library.tried} "
            f"was tried (`codealign doctor` lists all). pip install 'vllm=={vllm.library.tried}'"
        )


def open_engine(arguments: Mapping[str, Any]) -> Any:
    """The engine `LLM` of vLLM with these arguments, `model` among them.

    On a CPU prompts are prefilled whole unless the arguments say otherwise: vLLM 0.31 sets the generator of a
    seeded request back after each piece of its prompt, and generators of the CPU cannot be set back.

    Raises:
        CodealignError: If vLLM cannot be imported, with the versions here, or cannot load the model.
    """
    try:
        import torch
        from vllm import LLM
    except Exception as error:
        # Compiled for another torch, or written for another transformers: any class of error.
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CodealignError(
            f"vLLM is installed and cannot be imported ({first}). Versions here: "
            f"{told(['vllm', 'torch', 'transformers'])}"
        ) from error
    try:
        return LLM(**{**({} if torch.accelerator.is_available() else _ON_CPU), **arguments})
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        message = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise CodealignError(f"vLLM cannot load {arguments['model']}: {message}") from error


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Around a call of the engine: what vLLM refuses is an error that says so.

    A prompt longer than the window, a tokenizer without a chat template: a ValueError, or since vLLM 0.31 a
    class of its own.

    Args:
        what: Which prompts were asked for.

    Raises:
        CodealignError: In place of vLLM's.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, ValueError) and type(error).__name__ != "VLLMValidationError":
            raise
        raise CodealignError(f"vLLM refuses {what}: {error}") from None


@dataclass(slots=True)
class Counts:
    """What the engine did since the counts were last set to zero.

    Attributes:
        samples: Completions.
        prompt_tokens: Tokens of their prompts, each sample's counted.
        cached_tokens: How many of those had been computed for another one.
    """

    samples: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def cached_share(self) -> float:
        """Share of the prompts' tokens that came from the prefix cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter of PEFT's on disk: where it is, its base model, the rank that it needs."""

    path: str
    base: str
    rank: int


def adapter_of(model: str) -> Adapter | None:
    """The adapter in a model's folder; None for a whole model.

    Raises:
        CodealignError: If it is broken, or not one that vLLM serves.
    """
    path = Path(model) / ADAPTER
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, base, rank = config["peft_type"], config["base_model_name_or_path"], config["r"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CodealignError(
            f"{path} is no adapter's configuration ({type(error).__name__}: {error})"
        ) from None
    if kind != "LORA" or config.get("use_dora") or config.get("modules_to_save"):
        what = "DoRA" if config.get("use_dora") else "trained whole modules" if kind == "LORA" else str(kind)
        raise CodealignError(
            f"{model}: vLLM serves plain LoRA, not {what}; merge the adapter, or use --backend hf"
        )
    if not base:
        raise CodealignError(f"{path} names no base model (base_model_name_or_path)")
    ranks = [rank, *(config.get("rank_pattern") or {}).values()]
    return Adapter(str(Path(model).resolve()), str(base), max(int(value) for value in ranks))


class VLLMBackend:
    """One engine, loaded with the first batch."""

    single = False

    def __init__(self, options: BackendOptions) -> None:
        self._options = options
        self._engine: Any = None
        self._adapter = adapter_of(options.model)
        self.counts = Counts()

    def generate(self, batches: Sequence[Batch], sampling: Sampling) -> Iterator[Drawn]:
        """Yields the batches in their order.

        Raises:
            CodealignError: If vLLM cannot load the model or takes a prompt for too long.
        """
        for number, requests in batches:
            yield number, self._draw(requests, sampling)
        if self.counts.cached_tokens:
            sys.stderr.write(
                f"vLLM: {self.counts.cached_share:.0%} of {self.counts.prompt_tokens:,} prompt tokens came "
                "from the prefix cache\n"
            )

    def forget_prefixes(self) -> None:
        """Empties the prefix cache and the counts, for measurements."""
        self.counts = Counts()
        if self._engine is not None and not self._engine.reset_prefix_cache():
            raise CodealignError("vLLM did not empty its prefix cache; is it still drawing?")

    def _draw(self, requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        wanted = [(request, request.first + i) for request in requests for i in range(request.count)]
        if not wanted:
            return [[] for _ in requests]
        engine = self._loaded()
        prompts = [request.prompt for request, _ in wanted]
        settings = [_settings(sampling, request.key, sample) for request, sample in wanted]
        with refusals(f"a prompt of {requests[0].key!r} and after"):
            if self._options.chat:
                messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
                outputs = engine.chat(messages, settings, use_tqdm=False, **self._lora())
            else:
                outputs = engine.generate(prompts, settings, use_tqdm=False, **self._lora())
        self._count(outputs)
        texts = iter(cut_at_stop(output.outputs[0].text, sampling.stop) for output in outputs)
        return [[next(texts) for _ in range(request.count)] for request in requests]

    def _count(self, outputs: Sequence[Any]) -> None:
        self.counts.samples += len(outputs)
        for output in outputs:
            self.counts.prompt_tokens += len(getattr(output, "prompt_token_ids", None) or ())
            self.counts.cached_tokens += getattr(output, "num_cached_tokens", None) or 0

    def _lora(self) -> dict[str, Any]:
        """The argument that has the engine answer with the adapter."""
        if self._adapter is None:
            return {}
        from vllm.lora.request import LoRARequest

        return {"lora_request": LoRARequest("adapter", 1, self._adapter.path)}

    def _arguments(self) -> dict[str, Any]:
        """The engine's arguments; `engine` of the options wins."""
        options, adapter = self._options, self._adapter
        if adapter is None:
            return {"model": options.model, "dtype": options.dtype, "seed": 0, **options.engine}
        ranks = [rank for rank in _RANKS if rank >= adapter.rank]
        if not ranks:
            raise CodealignError(f"{options.model}: rank {adapter.rank}; vLLM serves up to {_RANKS[-1]}")
        lora: dict[str, Any] = {"enable_lora": True, "max_lora_rank": ranks[0], "max_loras": 1}
        # The adapter's folder holds the tokenizer that it was trained with.
        own = (Path(options.model) / "tokenizer_config.json").is_file()
        lora |= {"tokenizer": options.model} if own else {}
        return {"model": adapter.base, "dtype": options.dtype, "seed": 0, **lora, **options.engine}

    def _loaded(self) -> Any:
        if self._engine is None:
            self._engine = open_engine(self._arguments())
        return self._engine


_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `max_lora_rank` may be


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
