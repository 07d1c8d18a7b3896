"""Prompts to draw answers for: from a benchmark's split or a file, encoded once, in an order of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError, unknown
from codegen_eval.jsonl import read_jsonl

RESERVED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""Names under which a reward is given other things than columns."""


@dataclass(frozen=True, slots=True)
class PromptRow:
    """One prompt.

    Attributes:
        text: As rewards see it: text, or a list of messages.
        ids: Its tokens.
        columns: What else the data set says of it; rewards get it.
    """

    text: Any
    ids: tuple[int, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)


def load_rows(name: str, split: str | None) -> list[dict[str, Any]]:
    """Rows with `prompt` and other columns, from a JSONL file, a `datasets` folder, or a benchmark.

    Args:
        name: A path; else a registered benchmark, whose hidden tests are no columns.
        split: Of the benchmark or folder.

    Raises:
        CodealignError: If there is neither, or rows lack a prompt.
    """
    path = Path(name)
    if not path.exists():
        return _benchmark_rows(name, split)
    if path.is_file() and path.suffix in (".jsonl", ".json"):
        rows = [dict(row) for row in read_jsonl(path)]
    else:
        from alignment.preference.data import load

        rows = [dict(row) for row in load(name, split or "train", "prompts.jsonl")]
    for number, row in enumerate(rows):
        if not row.get("prompt") or not isinstance(row["prompt"], str | list):
            raise CodealignError(
                f"{name}, row {number}: `prompt` must be text or a list of messages (found: "
                f"{str(row.get('prompt'))[:40]!r}; columns: {', '.join(row)})"
            )
    if rows and (taken := sorted(set(RESERVED) & set(rows[0]))):
        raise CodealignError(
            f"{name}: rewards are given other things by the names {', '.join(taken)}; rename those columns"
        )
    return rows


def _benchmark_rows(name: str, split: str | None) -> list[dict[str, Any]]:
    from codegen_eval.benchmarks.base import BENCHMARKS, load

    if "/" in name or name.startswith(".") or "." in name:
        raise CodealignError(f"no such file or folder of prompts: {name}")
    if name not in BENCHMARKS.names():
        raise unknown("file or benchmark", name, BENCHMARKS.names())
    prompts = [problem.public() for problem in load(name, None, split)]
    return [{"prompt": p.prompt, "task_id": p.task_id, "entry_point": p.entry_point} for p in prompts]


def encode_rows(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, longest: int
) -> tuple[list[PromptRow], int]:
    """Prompts with their tokens, and how many were left out for their length.

    Args:
        rows: Of `load_rows`.
        tokenizer: The model's; prompts that are messages go through its chat template.
        longest: Most tokens of a prompt.

    Raises:
        CodealignError: For no rows, messages without a template, a prompt without a token, columns that
            differ between rows, or where every prompt is too long.
    """
    if not rows:
        raise CodealignError("there is no prompt to learn from")
    columns = set(rows[0])
    encoded, lengths = [], []
    for number, row in enumerate(rows):
        if set(row) != columns:
            raise CodealignError(
                f"prompt {number} has the columns {', '.join(sorted(row))}, the first one "
                f"{', '.join(sorted(columns))}: rewards need the same of every row"
            )
        ids = _ids(row["prompt"], tokenizer)
        if not ids:
            raise CodealignError(f"prompt {number} has no token ({row['prompt']!r}): leave it out")
        lengths.append(len(ids))
        if len(ids) <= longest:
            others = {key: value for key, value in row.items() if key != "prompt"}
            encoded.append(PromptRow(row["prompt"], tuple(ids), others))
    if not encoded:
        raise CodealignError(
            f"every prompt is longer than {longest} tokens (the shortest has {min(lengths)}): lower "
            "max_completion_length, or raise max_prompt_length"
        )
    return encoded, len(rows) - len(encoded)


def _ids(prompt: Any, tokenizer: Any) -> list[int]:
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt))
    if not tokenizer.chat_template:
        raise CodealignError("prompts are messages, but the model's tokenizer has no chat template")
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


class PromptOrder:
    """Which prompts a step draws for: shuffled passes over all of them, one behind the other.

    A function of the step's number alone, so a resumed run goes on where it was without being told.

    Args:
        count: Prompts there are.
        per_step: Prompts of one step, at most `count`.
        seed: Of the order.
    """

    def __init__(self, count: int, per_step: int, seed: int) -> None:
        self.count, self.per_step, self.seed = count, per_step, seed
        self._passes: dict[int, list[int]] = {}

    def step(self, number: int) -> list[int]:
        """Indices of the prompts of a step; a pass may end, and the next begin, within one."""
        places: Iterable[int] = range(number * self.per_step, (number + 1) * self.per_step)
        return [self._pass(place // self.count)[place % self.count] for place in places]

    def epoch(self, number: int) -> float:
        """Passes over the data that steps before this one made."""
        return number * self.per_step / self.count

    def _pass(self, number: int) -> list[int]:
        if number not in self._passes:
            import numpy as np

            order = np.random.default_rng([self.seed, number]).permutation(self.count)
            # Only the last two can be asked for again.
            self._passes = {k: v for k, v in self._passes.items() if k == number - 1}
            self._passes[number] = order.tolist()
        return self._passes[number]
