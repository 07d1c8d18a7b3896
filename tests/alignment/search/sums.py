"""An untrained model of the running sum, and jobs of MCTS-DPO over it that take no time."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from alignment.mcts_dpo import MctsDpoConfig
from alignment.search.sampler import HFSampler
from alignment.studies.mcts_dpo_base import Base, sum_tokenizer, untrained

BASE = Base(width=16, heads=2)


@cache
def model(seed: int = 0) -> Any:
    return untrained(BASE, seed).double()


def save(folder: Path, seed: int = 0) -> Path:
    model(seed).save_pretrained(folder)
    sum_tokenizer().save_pretrained(folder)
    return folder


def config(out: Path, base: Path | str, **changes: Any) -> MctsDpoConfig:
    """Three batches of prompts with two rounds; wrong and right are as good as drawn."""
    given: dict[str, Any] = {
        "out": out,
        "model": str(base),
        "rounds": 2,
        "prompts": 10,
        "batch": 4,
        "task": {"kind": "running-sum", "questions": 40, "digits": 3},
        "search": {"iterations": 6, "breadth": 3, "depth_limit": 2},
        "sampling": {"step_tokens": 2, "answer_tokens": 4, "temperature": 0.8},
        "pairs": {"min_visits": 0},
        "device": "cpu",
        "seed": 3,
    }
    for key, value in changes.items():
        given[key] = {**given[key], **value} if isinstance(value, dict) and key in given else value
    return MctsDpoConfig.model_validate(given)


def sampler(job: MctsDpoConfig) -> HFSampler:
    from alignment.search.tasks import load_tasks

    tasks = load_tasks(job.task, lambda: None, seed=job.seed)  # type: ignore[arg-type,return-value]
    return HFSampler(model(), sum_tokenizer(), job.sampling.of(tasks))
