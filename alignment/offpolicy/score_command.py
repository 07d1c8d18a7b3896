"""`codealign score`: rewards of drawn answers, into the file that RRHF and RAFT train on.

The same rewards as on-policy training takes, by name (docs/rewards.md), or whether an evaluation found each
sample right. Give the split that is trained on, never the one that will be evaluated.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from alignment.offpolicy.data import FILE
from alignment.rewards.protocol import Rewards, ask, close
from alignment.rewards.registry import make_rewards, maker
from codegen_eval.benchmarks.base import load
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.jsonl import read_jsonl
from codegen_eval.progress import track
from codegen_eval.records import Problem, Sample
from codegen_eval.runs import RunDir
from codegen_eval.samples import read_samples, sample_source

DESCRIPTION = "Scores drawn answers by any rewards, for `codealign train rrhf` and `raft`."
TASKS_PER_PART = 8
_SHARED = ("benchmark", "split", "dataset")


class ScoreConfig(Config):
    """Settings of `codealign score`."""

    samples: Path
    """Run directory of `codealign sample`, or any sample file with completions."""
    out: Path
    """Run directory; scored.jsonl appears in it."""
    benchmark: str = "minipy"
    """Where the problems come from."""
    split: str | None = None
    """Split of the benchmark; the one that is trained on."""
    dataset: Path | None = None
    """Data of the benchmark, where it does not ship with the project."""
    rewards: str = '[{"name": "execution", "preset": "pass_rate"}]'
    """JSON: a list of rewards with their weights and options, as in the recipes of on-policy training."""
    evaluation: Path | None = None
    """Run directory of `codealign eval` for these samples: 1 for a right sample, 0 for a wrong one, and no
    program is run. Its hidden tests then decide what is trained on."""
    chunk: int = Field(default=256, ge=1)
    """Most answers that are scored at a time."""
    overwrite: bool = False
    """Start anew if the directory holds another run."""

    not_identity = frozenset({"out", "overwrite", "samples", "dataset", "evaluation", "chunk"})

    @field_validator("rewards")
    @classmethod
    def _is_list(cls, value: str) -> str:
        try:
            given = json.loads(value)
        except ValueError as error:
            raise ValueError(f"is not valid JSON: {error}") from None
        if not isinstance(given, list | dict | str):
            raise ValueError("must be a list of rewards, each a name or a mapping with its name")
        return value


def run(config: ScoreConfig) -> RunDir:
    """Writes scored.jsonl: `task_id`, `prompt`, `completions`, `rewards` (null where there is none).

    Raises:
        CodealignError: For samples that do not fit the benchmark, unknown rewards or options of them, or an
            evaluation that lacks samples.
    """
    problems = {p.task_id: p for p in load(config.benchmark, config.dataset, config.split)}
    tasks = _by_task(config.samples, problems)
    inputs = {"samples": sample_source(config.samples)}
    if config.dataset is not None:
        inputs["dataset"] = config.dataset
    if config.evaluation is not None:
        inputs["evaluation"] = config.evaluation / "sample_results.jsonl"
    directory = RunDir.open(config.out, "score", config.identity(), overwrite=config.overwrite, inputs=inputs)
    if directory.finished:
        return directory
    parts = [list(tasks)[i : i + TASKS_PER_PART] for i in range(0, len(tasks), TASKS_PER_PART)]
    metrics: Counter[str] = Counter()

    def produce(pending: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        reward = None if config.evaluation else make_rewards(_specs(config))
        known = _evaluated(config.evaluation) if config.evaluation else {}
        try:
            for part in track(pending, len(pending), "scoring parts of tasks"):
                rows = []
                for task_id in parts[part]:
                    samples = tasks[task_id]
                    found: Rewards
                    if reward is None:
                        found = [_of(known, sample) for sample in samples]
                    else:
                        found = _scored(reward, problems[task_id], samples, config.chunk)
                    rows.append(_row(problems[task_id], samples, found))
                yield part, rows
        finally:
            close(reward)

    path = directory.build(FILE.removesuffix(".jsonl"), len(parts), produce)
    for row in read_jsonl(path):
        metrics.update(answers=len(row["rewards"]), without_reward=row["rewards"].count(None))
    directory.finish(tasks=len(tasks), **metrics)
    return directory


def _by_task(path: Path, problems: Mapping[str, Problem]) -> dict[str, list[Sample]]:
    """Samples by task, tasks in the benchmark's order, samples by their numbers."""
    found: dict[str, list[Sample]] = {}
    for sample in read_samples(path):
        if sample.task_id not in problems:
            raise CodealignError(
                f"{path}: {unknown('task id', sample.task_id, problems)}. Give the benchmark, data set and "
                "split that the samples were drawn for"
            )
        if sample.completion is None:
            raise CodealignError(
                f"{path}: sample {sample.sample} of task {sample.task_id!r} has no completion, only a whole "
                "solution: training needs what the model wrote after the prompt"
            )
        found.setdefault(sample.task_id, []).append(sample)
    return {
        task_id: sorted(found[task_id], key=lambda sample: sample.sample)
        for task_id in problems
        if task_id in found
    }


def _specs(config: ScoreConfig) -> list[Any]:
    """The rewards, with the benchmark handed to those that take one and name none."""
    given = json.loads(config.rewards)
    specs = []
    for entry in given if isinstance(given, list) else [given]:
        spec = {"name": entry} if isinstance(entry, str) else entry
        if isinstance(spec, dict) and isinstance(spec.get("name"), str):
            takes = inspect.signature(maker(spec["name"])).parameters
            open_ended = any(p.kind is p.VAR_KEYWORD for p in takes.values())
            if ("benchmark" in takes or open_ended) and "benchmark" not in spec:
                own = {key: getattr(config, key) for key in _SHARED if getattr(config, key) is not None}
                spec = {**own, **spec}
        specs.append(spec)
    return specs


def _scored(reward: Any, problem: Problem, samples: Sequence[Sample], chunk: int) -> Rewards:
    found: Rewards = []
    for start in range(0, len(samples), chunk):
        texts = [sample.completion or "" for sample in samples[start : start + chunk]]
        columns = {
            "task_id": [problem.task_id] * len(texts),
            "entry_point": [problem.entry_point] * len(texts),
        }
        found += asyncio.run(ask(reward, [problem.prompt] * len(texts), texts, None, **columns))
    return found


def _evaluated(path: Path) -> dict[tuple[str, int], float]:
    rows = read_jsonl(path / "sample_results.jsonl")
    return {(row["task_id"], row["sample"]): float(row["passed"]) for row in rows}


def _of(known: Mapping[tuple[str, int], float], sample: Sample) -> float:
    if (sample.task_id, sample.sample) not in known:
        raise CodealignError(
            f"the evaluation has no sample {sample.sample} of task {sample.task_id!r}: evaluate these samples"
        )
    return known[sample.task_id, sample.sample]


def _row(problem: Problem, samples: Sequence[Sample], rewards: Rewards) -> dict[str, Any]:
    return {
        "task_id": problem.task_id,
        "prompt": problem.prompt,
        "completions": [sample.completion for sample in samples],
        "rewards": rewards,
    }


def main(argv: Sequence[str]) -> int:
    """Entry point of the command line."""
    config = ScoreConfig.parse(argv, prog="codealign score", description=DESCRIPTION)
    directory = run(config)
    print(f"scored answers: {directory.path / FILE}")
    return 0


if __name__ == "__main__":
    from alignment.cli import guarded

    sys.exit(guarded(main, sys.argv[1:]))
