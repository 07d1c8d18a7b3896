"""vLLM beside Hugging Face's generate and our own loop: samples a second, and whether greedy text agrees.

    make .venv-vllm/.stamp
    OMP_NUM_THREADS=1 .venv-vllm/bin/python -m benchmarks.vllm_speed --out runs/bench/vllm

tiny-coder in float32 on one thread, MiniPy prompts with a shared preamble of other problems, so that prefixes
are worth keeping. Rounds are interleaved; time by the clock and of the CPU, of this process, in which the
engine runs too; on a machine that does other work as well, the CPU's is the one to compare. Loading is not
counted. vLLM's prefix cache is emptied before each round; the figure is the share of prompt tokens that came
from it. The machine's load average is written down.
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


def ways_to_draw(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """All ways by name, and the engines among them; each loads with its first use."""
    from codegen_eval.generation.base import BackendOptions
    from codegen_eval.generation.hf import HFGenerator, load_model
    from codegen_eval.generation.vllm import VLLMBackend

    model, tokenizer = load_model(path, dtype="float32", device="cpu")
    ways: dict[str, Any] = {
        "transformers' generate": Generate(model, tokenizer),
        "our loop": Ours(HFGenerator(model, tokenizer).generate),
    }
    engines = {}
    for name, caching in (("vLLM", True), ("vLLM, no prefix cache", False)):
        engine = {"enforce_eager": True, "max_model_len": 512, "block_size": 32}
        engine |= {"enable_prefix_caching": caching}
        engines[name] = VLLMBackend(BackendOptions(path, dtype="float32", engine=engine))
    for name, backend in engines.items():
        ways[name] = Ours(lambda asked, how, b=backend: next(iter(b.generate([(0, asked)], how)))[1])
    return ways, engines


def measure(ways: dict[str, Any], engines: dict[str, Any], texts: list[str], rounds: int) -> dict[str, Any]:
    """A row a way, and the load averages before and after each round."""
    greedy = {name: way(texts, 1, 0.0) for name, way in ways.items()}  # loads, and warms up
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cached: dict[str, list[float]] = {name: [] for name in engines}
    loads = [os.getloadavg()[0]]
    for _ in range(rounds):
        for name, way in ways.items():
            if name in engines:
                engines[name].forget_prefixes()
            began, before = time.perf_counter(), time.process_time()
            way(texts, SAMPLES, 0.8)
            cpu[name].append(time.process_time() - before)
            wall[name].append(time.perf_counter() - began)
            if name in engines:
                cached[name].append(engines[name].counts.cached_share)
        loads.append(os.getloadavg()[0])
    rows = []
    for name in ways:
        ratios = [one / other for one, other in zip(cpu["transformers' generate"], cpu[name], strict=True)]
        same = [a == b for a, b in zip(greedy[name], greedy["our loop"], strict=True)]
        rows.append(
            {
                "way": name,
                "samples_per_second": len(texts) * SAMPLES / statistics.median(wall[name]),
                "samples_per_cpu_second": len(texts) * SAMPLES / statistics.median(cpu[name]),
                "times_generate": statistics.median(ratios),
                "range": [min(ratios), max(ratios)],
                "same_greedy_text": sum(same),
                "prompts": len(texts),
                "cached": statistics.median(cached[name]) if name in cached else None,
            }
        )
    return {"rounds": rounds, "cores": os.cpu_count(), "load_averages": loads, "ways": rows}


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    loads = found["load_averages"]
    lines = [
        f"load average from {min(loads):.1f} to {max(loads):.1f} on {found['cores']} cores, "
        f"{found['rounds']} rounds",
        "",
        "| way | samples/s | samples/CPU s | times generate (CPU) | same greedy text | cached |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["ways"]:
        share = "-" if row["cached"] is None else f"{row['cached']:.0%}"
        low, high = row["range"]
        speed = f"{row['samples_per_second']:.1f} | {row['samples_per_cpu_second']:.1f}"
        ratio = f"{row['times_generate']:.2f} ({low:.2f}-{high:.2f})"
        same = f"{row['same_greedy_text']} of {row['prompts']}"
        lines.append(f"| {row['way']} | {speed} | {ratio} | {same} | {share} |")
    return "\n".join(lines)


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

    ways, engines = ways_to_draw(str(model_path("tiny-coder")))
    found = measure(ways, engines, prompts(given.prompts, given.preamble), given.rounds)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
