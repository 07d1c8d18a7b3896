"""Generation with any Hugging Face causal language model, in a loop of our own.

Three things differ from `generate`: finished rows leave the batch at once (with short programs most rows
are done long before the longest), every sample has its own random numbers, and a prompt's prefix is
computed once for all its samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import GENERATORS, Backend, BackendOptions, Request, Sampling
from codegen_eval.generation.decoding import Drawing, decode
from codegen_eval.generation.sampling import sample_generator
from codegen_eval.records import cut_at_stop


def check_folder(path: str, *, adapter: bool = False) -> None:
    """Refuses, without loading anything heavy, a path that cannot be a model.

    Args:
        path: Folder or hub id.
        adapter: Whether a folder with an adapter of PEFT's will do.

    Raises:
        CodealignError: If the folder is missing, or its config.json is missing or broken.
    """
    folder = Path(path)
    local = folder.is_absolute() or path.startswith(".") or path.count("/") != 1 or folder.parent.is_dir()
    if not folder.is_dir():
        if local:
            raise CodealignError(f"no such model folder: {path}")
        return
    name = next(
        (n for n in ("config.json", "adapter_config.json")[: 1 + adapter] if (folder / n).is_file()), None
    )
    if name is None:
        raise CodealignError(f"{path} holds no model: config.json is missing")
    try:
        json.loads((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CodealignError(f"{path} holds no model: {name} is not valid JSON ({error})") from None


def load_model(
    path: str, *, dtype: str = "auto", device: str | None = None, adapter: bool = False
) -> tuple[Any, Any]:
    """Model and tokenizer from a local folder or a hub id that the user named.

    Args:
        path: Folder or hub id.
        dtype: A torch dtype's name or `auto` (as stored).
        device: Torch device; the first GPU if there is one, else the CPU.
        adapter: Whether a folder with an adapter of PEFT's will do; it stands on its base model, unmerged.

    Raises:
        CodealignError: If the folder is missing, or holds no model or no tokenizer; for an unknown dtype or
            device.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    check_folder(path, adapter=adapter)
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise CodealignError(f"unknown dtype {dtype!r}: give auto, float32, bfloat16 or float16")
    tokenizer = load_tokenizer(path)
    try:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except ImportError:
        raise
    except Exception as error:
        # Broken weights show as errors of safetensors, torch, transformers: there is no common class.
        raise CodealignError(
            f"cannot load a causal language model from {path}: {_first_line(error)}"
        ) from None
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return model.to(device).eval(), tokenizer
    except (RuntimeError, AssertionError) as error:
        raise CodealignError(f"cannot use the device {device!r}: {_first_line(error)}") from None


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model's folder or hub id.

    Raises:
        CodealignError: If there is none that transformers can load.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        # An ImportError too: as a last resort transformers tries formats of libraries that are not there.
        advice = (
            "copy tokenizer.json and tokenizer_config.json beside the weights"
            if Path(path).is_dir()
            else "check the hub id and the connection, or give a folder"
        )
        raise CodealignError(
            f"{path} holds no tokenizer that transformers can load ({_first_line(error)}); {advice}"
        ) from None


def end_tokens(generation: Any, tokenizer: Any) -> set[int]:
    """Token ids that end an answer: those of a generation config, where there is one, and the tokenizer's."""
    ends = getattr(generation, "eos_token_id", None)
    found = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
    return {int(token) for token in found if token is not None}


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@GENERATORS.register("hf")
def open_hf(options: BackendOptions) -> Backend:
    """Our own loop over transformers' models: `model`, `dtype`, `device`, `workers`, `chat`."""
    from codegen_eval.generation.pool import open_pool

    return open_pool(options)


class HFGenerator:
    """Draws with a loaded model and tokenizer.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        chat: Prompts are messages of a user and go through the tokenizer's chat template.

    Raises:
        CodealignError: For `chat` where the tokenizer has no template.
    """

    def __init__(self, model: Any, tokenizer: Any, *, chat: bool = False) -> None:
        if chat and not tokenizer.chat_template:
            raise CodealignError("the model's tokenizer has no chat template; draw without --chat")
        self.model = model
        self.tokenizer = tokenizer
        self.chat = chat
        self.ends = end_tokens(model.generation_config, tokenizer)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[str]]:
        """For each request its completions, in order, cut at the end token or a stop text.

        Raises:
            CodealignError: If a prompt leaves no room for a completion in the model's window.
        """
        import torch

        if not requests:
            return []
        with torch.inference_mode():
            tokens = self._drawn(requests, sampling)
        texts = iter(
            self.tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
        return [[cut_at_stop(next(texts), sampling.stop) for _ in range(r.count)] for r in requests]

    def _tokens(self, prompt: str) -> list[int]:
        if not self.chat:
            return list(self.tokenizer.encode(prompt))
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        # The template writes the beginning token itself.
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def encode(self, requests: Sequence[Request], sampling: Sampling) -> list[list[int]]:
        """Token ids of each prompt.

        Raises:
            CodealignError: If one leaves no room for a completion in the model's window.
        """
        rows = [self._tokens(r.prompt) for r in requests]
        window = getattr(self.model.config, "max_position_embeddings", None)
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        if window is not None and len(rows[longest]) + sampling.max_new_tokens > window:
            raise CodealignError(
                f"the prompt of {requests[longest].key!r} has {len(rows[longest])} tokens; with "
                f"max_new_tokens={sampling.max_new_tokens} it does not fit the model's window of {window}"
            )
        return rows

    def _drawn(self, requests: Sequence[Request], sampling: Sampling) -> list[list[int]]:
        """Token lists of all samples, without end tokens, in the order of requests and samples."""
        stops = Stops(self.tokenizer, sampling.stop)
        greedy = sampling.temperature == 0
        drawings = [
            Drawing(
                ids,
                []
                if greedy
                else [sample_generator(sampling.seed, r.key, r.first + i) for i in range(r.count)],
                greedy=greedy and r.count > 0,
            )
            for r, ids in zip(requests, self.encode(requests, sampling), strict=True)
        ]
        drawn = decode(
            self.model,
            drawings,
            ends=self.ends,
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stopped=stops.reached if sampling.stop else None,
        )
        tokens = []
        for request, samples in zip(requests, drawn, strict=True):
            # Greedy samples of one prompt are equal: one is computed.
            for sample in samples * request.count if greedy else samples:
                ids = sample.ids
                tokens.append(ids[:-1] if ids and ids[-1] in self.ends else ids)
        return tokens


class Stops:
    """Knows which rows have produced a stop text, looking only at the end of each.

    Args:
        tokenizer: Of the model.
        stop: The stop texts; perhaps none.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.stop = stop
        # A stop text of n characters spans at most n tokens; one more for a token that began before it.
        self.tail = max((len(s) for s in stop), default=0) + 1

    def reached(self, tokens: list[int]) -> bool:
        """Whether the last tokens of a completion hold a stop text."""
        return bool(self.stop) and any(s in self.tokenizer.decode(tokens[-self.tail :]) for s in self.stop)
