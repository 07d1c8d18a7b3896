"""Tree search over many prompts at once against one prompt after the other, on the same trees and seeds.

    python -m benchmarks.search_speed --rounds 5
    python -m benchmarks.search_speed --rounds 5 --task minipy
    .venv-vllm/bin/python -m benchmarks.search_speed --rounds 3 --task minipy --vllm

Two tasks: running sums with the study's architecture (random weights, steps of two tokens, trees of like
size), and programs by tiny-coder on MiniPy's tuning split (statement blocks, mostly one or two an answer: the
longest step of a call and the tree with most steps keep all others waiting). Values depend on the text alone,
so that nothing but the search is measured.

Every round does all ways in turn, each time another one first; a ratio is the median over rounds of the ratio
within a round. All ways must give the same trees: the same nodes, tokens and visits, log-probabilities within
1e-3 (sums of another batch differ in their last digits), or, with `--dtype float64`, to the last bit. Ways
without the prefix store compute every prefix anew. `--vllm` adds both ways with vLLM and its prefix cache
(emptied before each); their trees are compared with each other. `--shots N` puts N solved problems before
each prompt of MiniPy, for prefixes as long as they are in real use.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from alignment.resources import model_path
from alignment.search.duplicates import Key, by_text
from alignment.search.lockstep import Candidate, SearchOptions, search
from alignment.search.sampler import HFSampler, StepSampling
from alignment.search.steps import split_statements
from alignment.search.storage import equal
from alignment.search.tasks import running_sums
from alignment.search.tree import Tree
from alignment.studies.mcts_dpo_base import Base, sum_tokenizer, untrained
from codegen_eval.benchmarks.base import load
from codegen_eval.generation.hf import load_model

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine's CPU time is ours
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

Grown = tuple[list[Tree], Any]


def value(candidates: Sequence[Candidate]) -> list[float | None]:
    """1 or -1 by the tokens of a whole answer: any rule that costs nothing and splits answers will do."""
    return [1.0 - 2.0 * (sum(c.step.tokens) % 2) if c.step.terminal else 0.0 for c in candidates]


VLLM = "vLLM"


class Bench:
    """Model, prompts and options that all ways share."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.key: Key = by_text
        self.engine: Any = None
        if given.task == "sums":
            tasks = running_sums(given.prompts, 9, 0)
            self.model, self.tokenizer = untrained(Base(), 0), sum_tokenizer()
            self.model.to(getattr(torch, given.dtype)).set_attn_implementation("sdpa")
            self.sampling = StepSampling(tasks.splitter, step_tokens=2, answer_tokens=16, trigger="")
            self.texts, self.key = list(tasks.texts), tasks.key
        else:
            self.model, self.tokenizer = load_model(
                str(model_path("tiny-coder")), dtype=given.dtype, device="cpu"
            )
            self.sampling = StepSampling(split_statements, step_tokens=48, answer_tokens=72)
            solved = load("minipy", None, "train")[: given.shots]
            before = "".join(p.prompt + p.canonical_solution + "\n\n" for p in solved)
            self.texts = [before + p.prompt for p in load("minipy", None, "tune")[: given.prompts]]
        self.prompts = [tuple(self.tokenizer.encode(text)) for text in self.texts]
        self.options = SearchOptions(
            iterations=given.iterations, breadth=given.breadth, depth_limit=given.depth
        )

    def ours(self, together: bool, cache_mb: float) -> Grown:
        """With the sampler over the loaded model."""
        return self.grow(
            together, HFSampler(self.model, self.tokenizer, self.sampling, cache_mb=cache_mb, rows=1024)
        )

    def vllm(self, together: bool) -> Grown:
        """With vLLM; one engine serves all rounds."""
        if self.engine is None:
            from alignment.search.vllm_sampler import open_sampler

            options = {"enforce_eager": True, "max_model_len": 512, "block_size": 32}
            self.engine = open_sampler(
                str(model_path("tiny-coder")), self.sampling, dtype="float32", engine=options
            )
        sampler = self.engine
        sampler.engine.reset_prefix_cache()
        sampler.sampled = sampler.computed = sampler.reused = 0
        trees, _ = self.grow(together, sampler)
        return trees, SimpleNamespace(
            sampled=sampler.sampled, computed=sampler.computed, reused=sampler.reused
        )

    def grow(self, together: bool, sampler: Any) -> Grown:
        """All trees, in one search or in one each, with one sampler."""
        trees = [Tree(prompt, seed=i) for i, prompt in enumerate(self.prompts)]
        parts = [range(len(trees))] if together else [[i] for i in range(len(trees))]
        for part in parts:
            search(
                [trees[i] for i in part],
                sampler,
                value,
                self.options,
                key=self.key,
                texts=[self.texts[i] for i in part],
            )
        return trees, sampler


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees have the same nodes, tokens and visits, and numbers within 1e-3."""
    if one.tokens != other.tokens or not np.array_equal(one["visits"], other["visits"]):
        return False
    return all(np.allclose(one[name], other[name], atol=1e-3) for name in ("q", "v", "reward", "logp"))


def measured(work: Callable[[], Grown]) -> tuple[float, float, Grown]:
    """Wall and CPU seconds of one call, and what it gave."""
    wall, cpu = time.perf_counter(), time.process_time()
    grown = work()
    return time.perf_counter() - wall, time.process_time() - cpu, grown


def main() -> int:
    """Prints rates, ratios and how many trees are the same; the status is 1 where one differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=("sums", "minipy"), default="sums")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=16)
    parser.add_argument("--breadth", type=int, default=4)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--shots", type=int, default=0, help="solved problems before each prompt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--vllm", action="store_true", help="with --task minipy: vLLM as well")
    given = parser.parse_args()
    if given.vllm and given.task != "minipy":
        parser.error("--vllm needs --task minipy: vLLM reads its model from a folder")
    torch.set_num_threads(given.threads)
    bench = Bench(given)
    ways: dict[str, Callable[[], Grown]] = {
        "batched": lambda: bench.ours(True, 1024.0),
        "one by one": lambda: bench.ours(False, 1024.0),
        "batched, no prefix store": lambda: bench.ours(True, 0.0),
        "one by one, no prefix store": lambda: bench.ours(False, 0.0),
    }
    bench.ours(True, 1024.0)  # what is made once a process is made now
    if given.vllm:
        ways |= {VLLM: lambda: bench.vllm(True), "vLLM, one by one": lambda: bench.vllm(False)}
        bench.vllm(True)  # loads
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, {given.threads} thread(s)")
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, Grown] = {}
    names = list(ways)
    for turn in range(given.rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wall, cpu, found[name] = measured(ways[name])
            times[name].append((wall, cpu))
    return report(times, found)


def report(times: dict[str, list[tuple[float, float]]], found: dict[str, Grown]) -> int:
    """Prints the table; 1 where trees differ."""
    status = 0
    for name, rows in times.items():
        trees, sampler = found[name]
        base = VLLM if name.startswith(VLLM) else "batched"
        reference = found[base][0]
        wall, cpu = (statistics.median(side) for side in zip(*rows, strict=True))
        ratios = [b[0] / a[0] for a, b in zip(times[base], rows, strict=True)]
        cpus = [b[1] / a[1] for a, b in zip(times[base], rows, strict=True)]
        alike = sum(same(a, b) for a, b in zip(reference, trees, strict=True))
        exact = sum(equal(a, b) for a, b in zip(reference, trees, strict=True))
        status |= alike < len(trees)
        prefix = sampler.computed + sampler.reused
        ratio = f"time x {statistics.median(ratios):5.2f} wall, x {statistics.median(cpus):5.2f} CPU"
        rates = f"{sampler.sampled / wall:7.0f} tokens/s wall, {sampler.sampled / cpu:7.0f} CPU"
        print(
            f"{name:<28} {rates}; {ratio}; prefix tokens reused {sampler.reused / prefix:4.0%}; "
            f"the same trees {alike}/{len(trees)}, to the bit {exact}"
        )
    sizes: Any = [len(tree) for tree in found["batched"][0]]
    print(f"{sum(sizes)} nodes, {found['batched'][1].sampled} sampled tokens")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
