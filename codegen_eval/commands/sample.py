"""`codealign sample`: programs and tests from a language model, here or behind a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from pydantic import Field, field_validator

from codegen_eval.benchmarks.base import load
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError
from codegen_eval.extraction import Rule, extract
from codegen_eval.generation.base import GENERATORS, Backend, BackendOptions, Request, Sampling
from codegen_eval.progress import track
from codegen_eval.records import Prompt
from codegen_eval.runs import RunDir

DESCRIPTION = (
    "Draws programs and tests for the prompts of a benchmark. Resumes; the same seed draws the same text."
)

# Where a function body ends for models that go on writing.
PROGRAM_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n#", "\n@", "\n```")
TEST_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\n```")
TEST_TEMPLATE = "{prompt}    pass\n\n"
CHAT_TEST_TEMPLATE = (
    "```python\n{prompt}    ...\n```\n\nWrite assert statements that test `{entry_point}`, each on a line of "
    "its own that begins with `assert {entry_point}(`. Write nothing else."
)
# Options that only some of our backends read.
_READ_BY: dict[str, tuple[str, ...]] = {
    "dtype": ("hf", "vllm"),
    "batch_prompts": ("hf", "vllm"),
    "device": ("hf",),
    "workers": ("hf",),
    "engine": ("vllm",),
    **dict.fromkeys(("base_url", "api_key_env", "concurrency", "timeout", "retries", "body"), ("openai",)),
}


class SampleConfig(Config):
    """Settings of `codealign sample`."""

    not_identity: ClassVar[frozenset[str]] = Config.not_identity | {
        "base_url",
        "api_key_env",
        "concurrency",
        "timeout",
        "retries",
    }

    model: str
    """Folder of a Hugging Face causal language model, a hub id, or the name that a server knows."""
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
    backend: str = "hf"
    """What draws: hf (transformers, our loop), vllm (in this process), openai (a server), or another's."""
    chat: bool = False
    """Ask as a user of a chat; the answer's program is extracted and stored beside its text."""
    chat_template: str = "{prompt}"
    """What a chat is asked for a program; `{prompt}` is the problem's text for chats, else its prompt."""
    extraction: Rule = "auto"
    """Which block of a chat's answer: auto, first, last, longest (docs/extraction.md)."""
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
    program_stops: tuple[str, ...] | None = None
    """Texts that end a program; where not given, what follows a function's body, and none in a chat."""
    test_template: str | None = None
    """What asks for tests; `{prompt}` and `{entry_point}` are filled in. If it ends in `assert`, that word
    belongs to the completion.
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
    engine: str = "{}"
    """Arguments of vLLM's engine as JSON, as '{"max_model_len": 4096, "tensor_parallel_size": 2}'."""
    base_url: str | None = None
    """Of an OpenAI-compatible server, as http://127.0.0.1:8000/v1."""
    api_key_env: str | None = None
    """Environment variable with the server's key; without it none is sent. The key is stored nowhere."""
    concurrency: int = Field(default=16, ge=1)
    """Requests to the server at a time."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds in which the server must answer one request."""
    retries: int = Field(default=8, ge=0)
    """Further attempts where the server is busy, fails or hangs up."""
    body: str = "{}"
    """Further fields of each request as JSON, as '{"top_k": 20}'; null takes a field out."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    @field_validator("test_template", "chat_template")
    @classmethod
    def _has_prompt(cls, value: str | None) -> str | None:
        if value is not None and "{prompt}" not in value:
            raise ValueError("must contain {prompt}")
        return value

    @field_validator("engine", "body")
    @classmethod
    def _is_object(cls, value: str) -> str:
        try:
            fits = isinstance(json.loads(value), dict)
        except (ValueError, RecursionError):
            fits = False
        if not fits:
            raise ValueError("must be a JSON object")
        return value

    def tests_template(self) -> str:
        """What asks for tests."""
        if self.test_template is not None:
            return self.test_template
        return CHAT_TEST_TEMPLATE if self.chat else TEST_TEMPLATE


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
        return [Request(f"programs/{p.task_id}", _program_text(p, config), config.programs) for p in prompts]
    template = config.tests_template()
    return [
        Request(
            f"tests/{p.task_id}",
            template.replace("{entry_point}", p.entry_point).replace("{prompt}", p.prompt),
            config.tests,
        )
        for p in prompts
    ]


def _program_text(prompt: Prompt, config: SampleConfig) -> str:
    if not config.chat:
        return prompt.prompt
    return config.chat_template.replace("{prompt}", prompt.chat or prompt.prompt)


def sampling_for(kind: str, config: SampleConfig, prompts: Sequence[Prompt]) -> Sampling:
    """How it is drawn. Where no stop texts are given, programs end at those of the benchmark, else at what
    follows a function's body; answers in chat and programs that stand alone end where the model ends them.
    """
    own = {prompt.stop for prompt in prompts}
    stops: tuple[str, ...] = own.pop() if len(own) == 1 else ()
    if not stops and not config.chat and all(prompt.continues for prompt in prompts):
        stops = PROGRAM_STOPS
    if config.chat:
        stops = ()
    test_stops = () if config.chat else TEST_STOPS
    if kind == "programs":
        stops = stops if config.program_stops is None else config.program_stops
        return Sampling(config.temperature, config.top_p, config.max_program_tokens, stops, config.seed)
    temperature = config.temperature if config.test_temperature is None else config.test_temperature
    return Sampling(temperature, config.top_p, config.max_test_tokens, test_stops, config.seed)


def open_backend(config: SampleConfig) -> Backend:
    """The backend, not yet loaded.

    Raises:
        CodealignError: For an unknown backend, an option that it does not read, or what it refuses itself.
    """
    ours = {name for names in _READ_BY.values() for name in names}
    for option, readers in _READ_BY.items():
        given = getattr(config, option) != SampleConfig.model_fields[option].default
        if given and config.backend in ours and config.backend not in readers:
            raise CodealignError(
                f"--{option.replace('_', '-')} is for --backend {' or '.join(readers)}, not {config.backend}"
            )
    for option in () if config.chat else ("chat_template", "extraction"):
        if getattr(config, option) != SampleConfig.model_fields[option].default:
            raise CodealignError(f"--{option.replace('_', '-')} is for --chat")
    options = BackendOptions(
        model=config.model,
        chat=config.chat,
        dtype=config.dtype,
        device=config.device,
        workers=config.workers,
        engine=json.loads(config.engine),
        base_url=config.base_url,
        api_key_env=config.api_key_env,
        concurrency=config.concurrency,
        timeout=config.timeout,
        retries=config.retries,
        body=json.loads(config.body),
    )
    return GENERATORS.get(config.backend)(options)


Part = list[tuple[Prompt, Request]]


def _parts(kind: str, prompts: Sequence[Prompt], config: SampleConfig, single: bool) -> list[Part]:
    """What is drawn, in pieces that survive a kill: single samples, or batches of prompts."""
    asked = list(zip(prompts, requests_for(kind, prompts, config), strict=True))
    if single:
        return [[(p, replace(r, count=1, first=i))] for p, r in asked for i in range(r.count)]
    return [asked[i : i + config.batch_prompts] for i in range(0, len(asked), config.batch_prompts)]


def _row(kind: str, prompt: Prompt, number: int, text: str, config: SampleConfig) -> dict[str, Any]:
    row: dict[str, Any] = {"task_id": prompt.task_id, "sample": number, "completion": text}
    if kind == "programs" and config.chat:
        found = extract(
            text,
            prompt=prompt.prompt,
            entry_point=prompt.entry_point,
            rule=config.extraction,
            language=prompt.language,
        )
        row |= {"solution": found.solution, "reason": found.reason, "notes": list(found.notes)}
    return row


def _build(
    kind: str, prompts: Sequence[Prompt], config: SampleConfig, backend: Backend, directory: RunDir
) -> None:
    parts = _parts(kind, prompts, config, backend.single)
    lead = "assert" if kind == "tests" and config.tests_template().rstrip().endswith("assert") else ""

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        work = [(number, [request for _, request in parts[number]]) for number in pending]
        drawn = backend.generate(work, sampling_for(kind, config, prompts))
        for number, texts in track(drawn, len(pending), f"sampling {kind}"):
            yield (
                number,
                [
                    _row(kind, prompt, request.first + i, lead + text, config)
                    for (prompt, request), completions in zip(parts[number], texts, strict=True)
                    for i, text in enumerate(completions)
                ],
            )

    directory.build(kind, len(parts), produce)


def run(config: SampleConfig) -> RunDir:
    """Writes programs.jsonl and tests.jsonl, as far as they are asked for.

    Raises:
        CodealignError: For a model folder without model or tokenizer, an unknown benchmark, nothing to draw,
            a backend that is unknown, not installed or does not answer.
    """
    wanted = {"programs": config.programs, "tests": config.tests}
    if not any(wanted.values()):
        raise CodealignError("nothing to draw: --programs and --tests are both 0")
    backend = open_backend(config)
    prompts = chosen_prompts(config)
    folder = Path(config.model)
    inputs = {"model": folder} if folder.is_dir() and config.backend != "openai" else {}
    directory = RunDir.open(
        config.out, "sample", config.identity(), overwrite=config.overwrite, inputs=inputs
    )
    if directory.finished:
        return directory
    if config.base_url:
        directory.log(event="server", base_url=config.base_url)
    for kind, count in wanted.items():
        if count:
            _build(kind, prompts, config, backend, directory)
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
