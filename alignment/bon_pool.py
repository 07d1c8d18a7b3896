"""A pool of samples with the scores of all members: scored once, kept as JSON lines, aggregated at will.

A row: `{"task_id": ..., "scores": {member: number, ...}, "gold": number}`; other keys are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment.rewards.aggregation import Calibration, FloatArray, calibrate
from codegen_eval.errors import CodealignError
from codegen_eval.jsonl import read_numbered
from codegen_eval.runs import RunDir


@dataclass(frozen=True, slots=True)
class Pool:
    """Scored samples by prompt.

    Attributes:
        members: Names, in the order of the scores' last axis.
        tasks: One id a prompt.
        scores: A prompt's scores, shape (its samples, members).
        gold: A prompt's gold scores, shape (its samples,).
    """

    members: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: tuple[FloatArray, ...]
    gold: tuple[FloatArray, ...]

    def calibrated(self, scales: Mapping[str, Calibration]) -> Pool:
        """The same pool with every member on its scale.

        Raises:
            CodealignError: For a member without a scale.
        """
        missing = [name for name in self.members if name not in scales]
        if missing:
            raise CodealignError(f"no calibration for {', '.join(missing)}; there is: {', '.join(scales)}")
        scores = tuple(
            np.stack([scales[name].apply(row[:, j]) for j, name in enumerate(self.members)], axis=1)
            for row in self.scores
        )
        return Pool(self.members, self.tasks, scores, self.gold)

    def scales(self, floor: float = 0.0) -> dict[str, Calibration]:
        """Each member's mean and standard deviation over the pool; for a pool made for calibration."""
        joined = np.concatenate(self.scores)
        return {
            name: calibrate(joined[:, j], floor=floor, name=f"member {name!r}")
            for j, name in enumerate(self.members)
        }


def read_pool(path: Path, *, gold: bool = True) -> Pool:
    """Reads a scored pool.

    Args:
        path: JSON lines, gzipped or not.
        gold: Whether every row must have a gold score; without, it counts as 0.

    Raises:
        CodealignError: For a row that lacks a key, other members than the first row's, or a score that is no
            finite number: with "FILE:LINE".
    """
    members: tuple[str, ...] = ()
    rows: dict[str, list[tuple[list[float], float]]] = {}
    for line, row in read_numbered(path, finite=False):
        where = f"{path}:{line}"
        scores = row.get("scores")
        if not isinstance(scores, dict) or not scores or "task_id" not in row:
            raise CodealignError(
                f'{where}: a row of a pool is {{"task_id": ..., "scores": {{member: number}}, "gold": '
                f"number}}, this one has {', '.join(row) or 'no keys'}"
            )
        members = members or tuple(scores)
        if set(scores) != set(members):
            lacking = set(members) ^ set(scores)
            raise CodealignError(
                f"{where}: member {', '.join(sorted(lacking))} is not in all rows; a member is never left out"
            )
        values = [_number(scores[name], f"{where}: member {name!r}") for name in members]
        value = _number(row.get("gold"), f"{where}: gold") if gold else 0.0
        rows.setdefault(str(row["task_id"]), []).append((values, value))
    if not rows:
        raise CodealignError(f"{path} holds no samples")
    return Pool(
        members,
        tuple(rows),
        tuple(np.array([scores for scores, _ in samples]) for samples in rows.values()),
        tuple(np.array([value for _, value in samples]) for samples in rows.values()),
    )


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise CodealignError(f"{what} must be a finite number, got {value!r}")


def _plain(value: Any) -> Any:
    """A member's score as Python's number, where it is a tensor or an array's element."""
    return value.item() if hasattr(value, "item") else value


def score_pool(
    samples: Sequence[Mapping[str, Any]],
    members: Mapping[str, Callable[..., Sequence[float | None]]],
    run: RunDir,
) -> Path:
    """Scores every sample by every member once, prompt by prompt; a killed job goes on where it was.

    Args:
        samples: Rows with task_id, prompt, completion, and `gold` where it is known.
        members: Reward functions in TRL's form, by name; other columns of the rows reach them as lists.
        run: An open run directory; pool.jsonl appears in it and is the cache.

    Raises:
        CodealignError: For rows without the columns, or a member without one finite number a sample.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for i, row in enumerate(samples):
        lacking = [key for key in ("task_id", "prompt", "completion") if key not in row]
        if lacking:
            raise CodealignError(f"sample {i} lacks {', '.join(lacking)}; it has: {', '.join(row)}")
        groups.setdefault(str(row["task_id"]), []).append(row)
    tasks = list(groups)

    def produce(missing: list[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for part in missing:
            yield part, _scored_rows(groups[tasks[part]], members)

    return run.build("pool", len(tasks), produce)


def _scored_rows(
    rows: Sequence[Mapping[str, Any]], members: Mapping[str, Callable[..., Sequence[float | None]]]
) -> list[dict[str, Any]]:
    """One prompt's rows of the pool."""
    shared = [key for key in rows[0] if key not in ("prompt", "completion") and all(key in r for r in rows)]
    columns = {key: [row[key] for row in rows] for key in shared}
    prompts, completions = [row["prompt"] for row in rows], [row["completion"] for row in rows]
    scores: dict[str, list[float]] = {}
    for name, member in members.items():
        given = list(member(prompts=prompts, completions=completions, **columns))
        if len(given) != len(rows):
            raise CodealignError(f"member {name!r} gave {len(given)} scores for {len(rows)} samples")
        what = f"member {name!r}, sample {{}} of task {rows[0]['task_id']!r}: its score"
        scores[name] = [_number(_plain(value), what.format(i)) for i, value in enumerate(given)]
    return [
        {
            "task_id": str(row["task_id"]),
            "sample": i,
            "scores": {name: values[i] for name, values in scores.items()},
            **({"gold": row["gold"]} if "gold" in row else {}),
        }
        for i, row in enumerate(rows)
    ]
