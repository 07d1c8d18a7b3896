"""vLLM beside Hugging Face's generate and our own loop: samples a CPU second, and whether greedy text agrees.

    make .venv-vllm/.stamp
    OMP_NUM_THREADS=1 .venv-vllm/bin/python -m benchmarks.vllm_speed --out runs/bench/vllm

tiny-coder in float32 on one thread, MiniPy prompts with a shared preamble of other problems, so that prefixes
are worth keeping. Rounds are interleaved; CPU time of this process, in which the engine runs too. vLLM's
prefix cache is emptied before each round; the figure is the share of prompt tokens that came from it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine's CPU time is ours
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

SAMPLES = 8
TOKENS = 64
SEED = 3


def prompts(count: int, preamble: int) -> list[str]:
    from codegen_eval.benchmarks.base import load

    problems = load("minipy", None, "tune")
    before = (
        "".join(p.prompt + p.canonical_solution + "\n\n" for p in problems[-preamble:]) if preamble else ""
    )
    step = max(1, (len(problems) - preamble) // count)
    return [before + p.prompt for p in problems[: step * count : step]]


class Generate:
    """transformers' own `generate`, prompts padded on the left, samples by num_return_sequences."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        tokenizer.padding_side = "left"

    def __call__(self, texts: list[str], count: int, temperature: float) -> list[str]:
        """`count` completions of each prompt."""
        import torch

        batch = self.tokenizer(texts, return_tensors="pt", padding=True)
        how: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        torch.manual_seed(SEED)
        with torch.inference_mode():
            found = self.model.generate(
                **{k: batch[k] for k in ("input_ids", "attention_mask")},
                max_new_tokens=TOKENS,
                num_return_sequences=count,
                pad_token_id=self.tokenizer.pad_token_id,
                **(how if temperature else {"do_sample": False}),
            )
        width = batch["input_ids"].shape[1]
        return list(self.tokenizer.batch_decode(found[:, width:], skip_special_tokens=True))


class Ours:
    """A backend of `codealign sample`."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __call__(self, texts: list[str], count: int, temperature: float) -> list[str]:
        """`count` completions of each prompt."""
        from codegen_eval.generation.base import Request, Sampling

        asked = [Request(str(i), text, count) for i, text in enumerate(texts)]
        sampling = Sampling(temperature, 1.0, TOKENS, (), SEED)
        return [text for part in self.backend(asked, sampling) for text in part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preamble", type=int, default=3)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    from alignment.resources import model_path
    from codegen_eval.generation.base import BackendOptions
    from codegen_eval.generation.hf import HFGenerator, load_model
    from codegen_eval.generation.vllm import VLLMBackend

    path = str(model_path("tiny-coder"))
    model, tokenizer = load_model(path, dtype="float32", device="cpu")
    engines = {}
    for name, caching in (("vLLM", True), ("vLLM, no prefix cache", False)):
        engine = {
            "enforce_eager": True,
            "max_model_len": 512,
            "enable_prefix_caching": caching,
            "block_size": 32,
        }
        engines[name] = VLLMBackend(BackendOptions(path, dtype="float32", engine=engine))
    texts = prompts(given.prompts, given.preamble)
    generator = HFGenerator(model, tokenizer)
    ways: dict[str, Any] = {
        "transformers' generate": Generate(model, tokenizer),
        "our loop": Ours(generator.generate),
    }
    for name, backend in engines.items():
        ways[name] = Ours(lambda asked, how, b=backend: next(iter(b.generate([(0, asked)], how)))[1])
    greedy = {name: way(texts, 1, 0.0) for name, way in ways.items()}  # loads, and warms up
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cached: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(given.rounds):
        for name, way in ways.items():
            if name in engines:
                engines[name].forget_prefixes()
            before = time.process_time()
            way(texts, SAMPLES, 0.8)
            seconds[name].append(time.process_time() - before)
            if name in engines:
                cached[name].append(engines[name].counts.cached_share)
    rows = []
    base = seconds["transformers' generate"]
    for name, spent in seconds.items():
        ratios = [one / other for one, other in zip(base, spent, strict=True)]
        rows.append(
            {
                "way": name,
                "samples_per_cpu_second": len(texts) * SAMPLES / statistics.median(spent),
                "times_generate": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
                "same_greedy_text": sum(
                    a == b for a, b in zip(greedy[name], greedy["our loop"], strict=True)
                ),
                "prompts": len(texts),
                "cached": statistics.median(cached[name]) if name in cached else None,
            }
        )
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    print("| way | samples/CPU s | times generate (range) | greedy text as our loop's | from the cache |")
    print("|---|---|---|---|---|")
    for row in rows:
        share = "-" if row["cached"] is None else f"{row['cached']:.0%}"
        low, high = row["range"]
        same = f"{row['same_greedy_text']} of {row['prompts']}"
        speed = f"{row['samples_per_cpu_second']:.1f} | {row['times_generate']:.2f} ({low:.2f}-{high:.2f})"
        print(f"| {row['way']} | {speed} | {same} | {share} |")


if __name__ == "__main__":
    main()
