"""`codealign sample`: programs and tests from a causal language model."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from pydantic import Field, field_validator

from codegen_eval.benchmarks.base import load
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.generation.base import Request, Sampling
from codegen_eval.generation.hf import check_folder
from codegen_eval.generation.pool import GeneratorPool
from codegen_eval.progress import track
from codegen_eval.records import Prompt
from codegen_eval.runs import RunDir

DESCRIPTION = (
    "Draws programs and tests for the prompts of a benchmark. Resumes; the same seed draws the same text."
)

# Where a function body ends for models that go on writing.
PROGRAM_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n#", "\n@", "\n```")
TEST_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\n```")


class SampleConfig(Config):
    """Settings of `codealign sample`."""

    model: str
    """Folder of a Hugging Face causal language model with its tokenizer, or a hub id."""
    out: Path
    """Run directory; programs.jsonl and tests.jsonl appear in it."""
    benchmark: str = "minipy"
    """Where the prompts come from; its hidden tests are never read."""
    split: str | None = None
    """Split of the benchmark."""
    dataset: Path | None = None
    """Data of the benchmark, where it does not ship with the project."""
    limit: int | None = Field(default=None, ge=1)
    """Only so many problems, drawn by the seed."""
    programs: int = Field(default=10, ge=0)
    """Programs for each prompt."""
    tests: int = Field(default=0, ge=0)
    """Test texts for each prompt; each holds several assertions."""
    temperature: float = Field(default=0.8, ge=0)
    """Of programs; 0 is greedy."""
    test_temperature: float | None = Field(default=None, ge=0)
    """Of tests; the programs' temperature when not given."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of both."""
    max_program_tokens: int = Field(default=256, ge=1)
    """Where a program ends at the latest."""
    max_test_tokens: int = Field(default=256, ge=1)
    """Where a test text ends at the latest."""
    test_template: str = "{prompt}    pass\n\n"
    """What asks for tests; `{prompt}` and `{entry_point}` are filled in. If it ends in `assert`, that word
    belongs
    to the completion.
    """
    seed: int = Field(default=0, ge=0)
    """Another seed draws other text."""
    batch_prompts: int = Field(default=10, ge=1)
    """Prompts in a batch; the batch is also what a resumed run does not draw again."""
    dtype: str = "auto"
    """Of the weights: auto (as stored), float32, bfloat16, float16."""
    device: str | None = None
    """Torch device; the first GPU if there is one, else the CPU."""
    workers: int | None = Field(default=None, ge=1)
    """Processes, each with the model and one thread; default one for each core on a CPU, one with a GPU."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("test_template")
    @classmethod
    def _has_prompt(cls, value: str) -> str:
        if "{prompt}" not in value:
            raise ValueError("must contain {prompt}")
        return value


def chosen_prompts(config: SampleConfig) -> list[Prompt]:
    """The prompts to draw for: all, or `limit` of them drawn by the seed, in the benchmark's order.

    Raises:
        CodealignError: If the limit exceeds the benchmark.
    """
    prompts = [p.public() for p in load(config.benchmark, config.dataset, config.split)]
    if config.limit is None:
        return prompts
    if config.limit > len(prompts):
        raise CodealignError(f"limit={config.limit}, but the benchmark has only {len(prompts)} problems here")
    return [
        prompts[i] for i in sorted(Random(f"sample/{config.seed}").sample(range(len(prompts)), config.limit))
    ]


def requests_for(kind: str, prompts: Sequence[Prompt], config: SampleConfig) -> list[Request]:
    """What is asked of the model; `kind` is `programs` or `tests`."""
    if kind == "programs":
        return [Request(f"programs/{p.task_id}", p.prompt, config.programs) for p in prompts]
    return [
        Request(
            f"tests/{p.task_id}",
            config.test_template.replace("{entry_point}", p.entry_point).replace("{prompt}", p.prompt),
            config.tests,
        )
        for p in prompts
    ]


def sampling_for(kind: str, config: SampleConfig) -> Sampling:
    """How it is drawn."""
    if kind == "programs":
        return Sampling(
            config.temperature, config.top_p, config.max_program_tokens, PROGRAM_STOPS, config.seed
        )
    temperature = config.temperature if config.test_temperature is None else config.test_temperature
    return Sampling(temperature, config.top_p, config.max_test_tokens, TEST_STOPS, config.seed)


def _build(
    kind: str, prompts: Sequence[Prompt], config: SampleConfig, pool: GeneratorPool, directory: RunDir
) -> None:
    size = config.batch_prompts
    batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
    lead = "assert" if kind == "tests" and config.test_template.rstrip().endswith("assert") else ""

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        work = [(number, requests_for(kind, batches[number], config)) for number in pending]
        drawn = pool.generate(work, sampling_for(kind, config))
        for number, texts in track(drawn, len(pending), f"sampling {kind}"):
            yield (
                number,
                [
                    {"task_id": prompt.task_id, "sample": i, "completion": lead + text}
                    for prompt, completions in zip(batches[number], texts, strict=True)
                    for i, text in enumerate(completions)
                ],
            )

    directory.build(kind, len(batches), produce)


def _workers(config: SampleConfig) -> int:
    if config.workers is not None:
        return config.workers
    import torch

    return 1 if config.device or torch.cuda.is_available() else len(os.sched_getaffinity(0))


def run(config: SampleConfig) -> RunDir:
    """Writes programs.jsonl and tests.jsonl, as far as they are asked for.

    Raises:
        CodealignError: For a model folder without model or tokenizer, an unknown benchmark, nothing to draw.
    """
    wanted = {"programs": config.programs, "tests": config.tests}
    if not any(wanted.values()):
        raise CodealignError("nothing to draw: --programs and --tests are both 0")
    check_folder(config.model)
    prompts = chosen_prompts(config)
    folder = Path(config.model)
    inputs = {"model": folder} if folder.exists() else {}
    directory = RunDir.open(
        config.out, "sample", config.identity(), overwrite=config.overwrite, inputs=inputs
    )
    if directory.finished:
        return directory
    pool = GeneratorPool(config.model, dtype=config.dtype, device=config.device, workers=_workers(config))
    for kind, count in wanted.items():
        if count:
            _build(kind, prompts, config, pool, directory)
    directory.finish(prompts=len(prompts), **{kind: count * len(prompts) for kind, count in wanted.items()})
    return directory


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = SampleConfig.parse(argv, prog="codealign sample", description=DESCRIPTION)
    directory = run(config)
    for kind in ("programs", "tests"):
        if (directory.path / f"{kind}.jsonl").exists():
            print(f"{kind}: {directory.path / f'{kind}.jsonl'}")
    return 0
