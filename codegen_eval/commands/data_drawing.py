"""What `codealign generate-data` asks of the model, part by part, and what the sandbox is to run of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from codegen_eval.commands.data_config import GenerateDataConfig
from codegen_eval.commands.sample import requests_for, sampling_for
from codegen_eval.datajob.instruct import request
from codegen_eval.datajob.prompts import Candidate
from codegen_eval.execution import Task, collect
from codegen_eval.extraction import extract
from codegen_eval.generation.base import Backend, Request, Sampling
from codegen_eval.records import Prompt


def completions(
    backend: Backend, asked: Mapping[int, Sequence[Request]], sampling: Sampling
) -> dict[int, list[list[str]]]:
    """Completions of each request of each batch, asked for as single samples where the backend wants that."""
    if not backend.single:
        return dict(backend.generate(list(asked.items()), sampling))
    places = [(n, i, k) for n, batch in asked.items() for i, r in enumerate(batch) for k in range(r.count)]
    batches = [(b, [replace(asked[n][i], count=1, first=k)]) for b, (n, i, k) in enumerate(places)]
    drawn = dict(backend.generate(batches, sampling))
    found: dict[int, list[list[str]]] = {n: [[] for _ in batch] for n, batch in asked.items()}
    for b, (n, i, _) in enumerate(places):
        found[n][i].append(drawn[b][0][0])
    return found


class Inventing:
    """Has the backend write a new task for each seed, part by part.

    Args:
        config: Its temperature and seed hold for tasks too; a task is at most `max_task_tokens` long.
        backend: What writes.
        seeds: Functions of a source tree.
    """

    def __init__(self, config: GenerateDataConfig, backend: Backend, seeds: Sequence[Candidate]) -> None:
        self._config, self._backend = config, backend
        size = config.batch_prompts
        self.parts = [seeds[i : i + size] for i in range(0, len(seeds), size)]

    def answers(self, pending: Sequence[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Rows `task_id`, `completion` of the seeds' answers, a part at a time."""
        config = self._config
        sampling = Sampling(config.temperature, config.top_p, config.max_task_tokens, (), config.seed)
        for number in pending:
            part = self.parts[number]
            asked = [request(seed, config.task_template) for seed in part]
            (texts,) = completions(self._backend, {number: asked}, sampling).values()
            yield (
                number,
                [
                    {"task_id": seed.prompt.task_id, "completion": text}
                    for seed, (text,) in zip(part, texts, strict=True)
                ],
            )


class Drawing:
    """Has the backend write programs and tests for parts of the prompts.

    A part is always drawn as one batch of each kind, so its text does not depend on what was drawn before.
    """

    def __init__(self, config: GenerateDataConfig, backend: Backend, shown: Sequence[Prompt]) -> None:
        self._config, self._backend = config, backend
        size = config.batch_prompts
        self.parts = [shown[i : i + size] for i in range(0, len(shown), size)]
        self._sampling: dict[str, Sampling] = {
            kind: sampling_for(kind, config, shown) for kind in ("programs", "tests")
        }

    def tasks(self, pending: Sequence[int]) -> Iterator[tuple[int, list[Task]]]:
        """Parts with what the sandbox is to run; processes that draw get a part each."""
        wave = (self._config.workers or 1) if self._config.backend == "hf" else 1
        for start in range(0, len(pending), wave):
            numbers = pending[start : start + wave]
            programs = self._texts("programs", numbers)
            tests = self._texts("tests", numbers) if "own" in self._config.sources else {}
            for number in numbers:
                part = self.parts[number]
                written = zip(part, programs[number], tests.get(number, [()] * len(part)), strict=True)
                yield number, [self._task(*one) for one in written]

    def _texts(self, kind: str, numbers: Sequence[int]) -> dict[int, list[list[str]]]:
        """Completions by part and prompt."""
        asked = {number: requests_for(kind, self.parts[number], self._config) for number in numbers}
        return completions(self._backend, asked, self._sampling[kind])

    def _task(self, prompt: Prompt, programs: Sequence[str], tests: Sequence[str]) -> Task:
        if self._config.tests_template().rstrip().endswith("assert"):
            tests = ["assert" + text for text in tests]
        if not self._config.chat:
            return collect(prompt, programs, tests, self._config.sources)
        found = [
            extract(text, prompt=prompt.prompt, entry_point=prompt.entry_point, rule=self._config.extraction)
            for text in programs
        ]
        cuts = Counter(f"program_{one.reason}" for one in found)
        task = collect(prompt, (), tests, self._config.sources)
        # An answer without a program counts as one that does not compile.
        codes = tuple(one.solution or "(no program)" for one in found)
        return replace(task, programs=codes, counts={**cuts, **task.counts})
