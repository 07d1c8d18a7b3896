"""Answers by vLLM in the trainer's process (Kwon et al. 2023, arXiv 2309.06180), its weights the policy's.

Before each rollout the policy's weights are copied into the engine, adapters added to them on the way, and
the prefix cache is emptied: what is in it was computed with the old ones. Sampled and greedy answers go in
one call, each a request with its own settings.
The engine's kernels are not the trainer's, so its log-probabilities (of the distribution drawn from) come
with the answers and the trainer weighs by them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from alignment.onpolicy.rollout import Answer, Ask, Decoding
from alignment.onpolicy.vllm_worker import EXTENSION
from codegen_eval.errors import CodealignError
from codegen_eval.generation.hf import end_tokens
from codegen_eval.generation.sampling import sample_seed
from codegen_eval.generation.vllm import open_engine, refusals
from codegen_eval.records import cut_at_stop

ADAPTER = "default"


class VLLMSampler:
    """An engine beside the trainer, on the same device.

    Args:
        tokenizer: The policy's.
        model: Folder or hub id of the policy before training: the engine reads its architecture there.
        dtype: Of the engine's weights.
        engine: Further arguments of vLLM's `LLM`, as `gpu_memory_utilization`.

    Raises:
        CodealignError: If vLLM is not installed.
    """

    exact = False

    def __init__(
        self, tokenizer: Any, model: str, *, dtype: str = "auto", engine: Mapping[str, Any] | None = None
    ) -> None:
        if find_spec("vllm") is None:
            raise CodealignError("use_vllm needs vLLM: pip install 'codealign[vllm]', or set use_vllm false")
        self.tokenizer, self._model, self._dtype = tokenizer, model, dtype
        self._arguments = dict(engine or {})
        self._engine: Any = None
        self._ends: set[int] = set()

    def sync(self, model: Any) -> None:
        """Copies the policy's weights into the engine, which is started by the first call.

        Raises:
            CodealignError: If vLLM cannot load the model, or the engine cannot take weights.
        """
        on_cpu = next(model.parameters()).device.type == "cpu"
        self._engine = self._engine or self._started(on_cpu)
        self._ends = end_tokens(model.generation_config, self.tokenizer)
        with torch.no_grad():
            if on_cpu:
                self._engine.collective_rpc("take_weights", kwargs={"weights": whole_weights(model)})
            else:
                runner = self._engine.llm_engine.model_executor.driver_worker.model_runner
                runner.model.load_weights(whole_weights(model))
        if not self._engine.reset_prefix_cache():
            raise CodealignError("vLLM did not empty its prefix cache, which holds the old weights' answers")

    def draw(self, asks: Sequence[Ask], decoding: Decoding) -> list[list[Answer]]:
        """As `rollout.Sampler.draw`; log-probabilities always come along.

        Raises:
            CodealignError: If vLLM refuses a prompt.
        """
        prompts, settings = [], []
        for ask in asks:
            seeds: list[int | None] = [sample_seed(decoding.seed, ask.key, i) for i in range(ask.count)]
            for seed in [*seeds, None] if ask.greedy else seeds:
                prompts.append({"prompt_token_ids": list(ask.prompt_ids)})
                settings.append(self._settings(decoding, seed))
        with refusals("a prompt"):
            outputs = self._engine.generate(prompts, settings, use_tqdm=False)
        drawn = iter([self._answer(output.outputs[0], decoding) for output in outputs])
        return [[next(drawn) for _ in range(ask.count + ask.greedy)] for ask in asks]

    def _settings(self, decoding: Decoding, seed: int | None) -> Any:
        """Of one request; no seed is the greedy one."""
        from vllm import SamplingParams

        sampled = {"temperature": decoding.temperature, "top_p": decoding.top_p, "seed": seed}
        return SamplingParams(
            n=1,
            max_tokens=decoding.max_new_tokens,
            stop=list(decoding.stop),
            stop_token_ids=sorted(self._ends),
            logprobs=0,  # the drawn token's alone
            **(sampled if seed is not None else {"temperature": 0.0}),
        )

    def _answer(self, output: Any, decoding: Decoding) -> Answer:
        ids = list(output.token_ids)
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        logps = [float(step[token].logprob) for token, step in zip(ids, output.logprobs, strict=True)]
        return Answer(ids, cut_at_stop(text, decoding.stop), output.finish_reason == "stop", logps)

    def _started(self, on_cpu: bool) -> Any:
        if on_cpu and not self._arguments.get("enforce_eager", True):
            raise CodealignError(
                "vllm_engine has enforce_eager false: on a CPU a compiled model keeps its old weights. Leave "
                "it out"
            )
        # The engine's weights must lie in this process.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        fixed: dict[str, Any] = {"seed": 0, "logprobs_mode": "processed_logprobs"}
        if on_cpu:
            fixed |= {"enforce_eager": True, "worker_extension_cls": EXTENSION}
        return open_engine({"model": self._model, "dtype": self._dtype, **fixed, **self._arguments})


def whole_weights(policy: Any) -> Iterator[tuple[str, Tensor]]:
    """Names and weights as the model without adapters has them; an adapter's part is added, nothing merged.

    Merging and taking apart again would leave rounding in the frozen weights.
    """
    if not hasattr(policy, "peft_config"):
        yield from policy.state_dict().items()
        return
    layers = {
        name: module
        for name, module in policy.get_base_model().named_modules()
        if hasattr(module, "get_delta_weight") and ADAPTER in getattr(module, "lora_A", {})
    }
    for name, weight in policy.get_base_model().state_dict().items():
        if "lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        layer = layers.get(plain.removesuffix(".weight"))
        if layer is not None and name.endswith(".base_layer.weight"):
            weight = weight + layer.get_delta_weight(ADAPTER).to(weight.dtype)
        yield plain, weight
