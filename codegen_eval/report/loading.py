"""Reads the run directories that a report is about: evaluation, preference data, training log.

What is missing or broken is said with the file's name; nothing is guessed.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from codegen_eval.errors import CodealignError
from codegen_eval.runs import read_jsonl


class _Row(BaseModel):
    """Files of later versions may hold more keys: those are ignored here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(_Row):
    """A figure with the ends of its 95 % interval (None where it has none)."""

    value: float
    low: float | None = None
    high: float | None = None


class ProblemResult(_Row):
    """What became of one problem's samples: `c` of `n` right, `slow` of those slow (None: not measured)."""

    task_id: str
    n: PositiveInt
    c: NonNegativeInt
    slow: int | None = None

    @property
    def share(self) -> float:
        """Share of right samples."""
        return self.c / self.n


class EvalResults(_Row):
    """The content of an evaluation run's results.json."""

    benchmark: str
    split: str | None = None
    model: str | None = None
    n_problems: int
    samples_per_problem: int | None = None
    temperature: float | None = None
    pass_at_k: dict[PositiveInt, Estimate] = Field(min_length=1)
    slow_share: Estimate | None = None
    verdicts: dict[str, NonNegativeInt] = {}
    problems: tuple[ProblemResult, ...] = ()


@dataclass(frozen=True, slots=True)
class EvalRun:
    """An evaluation run: its results (parsed and as they stand) and the protocol they were made under."""

    path: Path
    results: EvalResults
    raw: Mapping[str, Any]
    protocol: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PairsRun:
    """Preference data in figures, with a few pairs to look at.

    Attributes:
        counts: number of pairs, by kind.
        confidences: the confidences of the pairs, by kind.
        funnel: the counts of funnel.json by dotted name, in the file's order.
        examples: the chosen rows, kind by kind.
    """

    path: Path
    counts: Mapping[str, int]
    confidences: Mapping[str, list[float]]
    funnel: Mapping[str, float]
    examples: tuple[Mapping[str, Any], ...]

    @property
    def total(self) -> int:
        """Number of pairs."""
        return sum(self.counts.values())


def load_eval(path: Path) -> EvalRun:
    """Reads an evaluation run.

    Raises:
        CodealignError: the directory holds no results.json, or one that is not of an evaluation.
    """
    file = path / "results.json"
    raw = _read_object(file, "an evaluation run (make one with `codealign eval`)")
    try:
        results = EvalResults.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CodealignError(
            f"{file}: {where}: {first['msg']}; write it anew with `codealign eval`"
        ) from None
    protocol = path / "protocol.json"
    return EvalRun(
        path, results, raw, _read_object(protocol, "a run directory") if protocol.is_file() else {}
    )


def load_training(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The series of a training run's metrics.jsonl: name -> (step, value) points in the file's order.

    Rows without a step and values that are no finite numbers are left out.

    Raises:
        CodealignError: there is no metrics.jsonl, or a line of it is broken.
    """
    file = path / "metrics.jsonl"
    if not file.is_file():
        raise CodealignError(f"{file} does not exist: --train wants the directory of a training run")
    series: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in read_jsonl(file):
        if not _finite(row.get("step")):
            continue
        for name, value in row.items():
            if name != "step" and _finite(value):
                series[name].append((float(row["step"]), float(value)))
    return dict(series)


def load_pairs(path: Path, *, shown: int, seed: int) -> PairsRun:
    """Reads preference data and draws the pairs to show.

    Args:
        path: Directory of a `codealign pairs` run.
        shown: How many pairs of each kind to show; different problems come before a second pair of one.
        seed: Decides which.

    Raises:
        CodealignError: there is no pairs.jsonl, or a row of it is broken.
    """
    file = path / "pairs.jsonl"
    if not file.is_file():
        raise CodealignError(f"{file} does not exist: --pairs wants the directory of a `codealign pairs` run")
    confidences: defaultdict[str, list[float]] = defaultdict(list)
    places: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, row in enumerate(read_jsonl(file)):
        _check_pair(row, f"{file}:{index + 1}")
        kind = str(row.get("kind", "unknown"))
        places[kind].append((index, str(row.get("task_id", ""))))
        if _finite(row.get("confidence")):
            confidences[kind].append(float(row["confidence"]))
    order = [index for kind in sorted(places) for index in _choose(places[kind], shown, f"{seed}/{kind!a}")]
    # A second pass keeps memory flat: only the few shown rows are ever held.
    wanted = set(order)
    rows = {index: row for index, row in enumerate(read_jsonl(file)) if index in wanted}
    funnel = path / "funnel.json"
    return PairsRun(
        path,
        {kind: len(places[kind]) for kind in sorted(places)},
        {kind: confidences.get(kind, []) for kind in sorted(places)},
        _flat(_read_object(funnel, "the counts of a `codealign pairs` run")) if funnel.is_file() else {},
        tuple(rows[index] for index in order),
    )


def _choose(places: list[tuple[int, str]], count: int, seed: str) -> list[int]:
    """Row numbers of `count` pairs, drawn so that no problem comes twice before every problem came once."""
    shuffled = list(places)
    random.Random(seed).shuffle(shuffled)
    seen: Counter[str] = Counter()
    ranked = []
    for position, (index, task_id) in enumerate(shuffled):
        ranked.append((seen[task_id], position, index))
        seen[task_id] += 1
    return [index for _, _, index in sorted(ranked)[:count]]


def _check_pair(row: Mapping[str, Any], where: str) -> None:
    """Refuses a row that is no preference pair of texts."""
    for key in ("prompt", "chosen", "rejected"):
        if not isinstance(row.get(key), str):
            raise CodealignError(f"{where}: {key!r} must be a text, got {type(row.get(key)).__name__}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested objects by dotted name."""
    out: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        elif _finite(value):
            out[f"{prefix}{key}"] = value
    return out


def _read_object(file: Path, what: str) -> dict[str, Any]:
    """A JSON object from a file of ours."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CodealignError(f"{file} does not exist: {file.parent} is not {what}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CodealignError(f"{file} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CodealignError(f"{file} must hold a JSON object, got {type(value).__name__}")
    return value
