"""Reads the run directories that a report shows beside evaluations: preference data, training log.

What is missing or broken is said with the file's name; nothing is guessed.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.report.folder import PairsFolder, locate
from codegen_eval.results import read_object
from codegen_eval.runs import read_jsonl


@dataclass(frozen=True, slots=True)
class PairRef:
    """What a pair says of its two programs: its row in pairs.jsonl (from 1), kind, hashes, confidence."""

    number: int
    kind: str
    chosen_sha: str
    rejected_sha: str
    confidence: float | None


@dataclass(frozen=True, slots=True)
class PairsRun:
    """Preference data in figures, with a few pairs to look at.

    Attributes:
        folder: where its files lie.
        counts: number of pairs, by kind.
        confidences: the confidences of the pairs, by kind.
        funnel: the counts of funnel.json by dotted name, in the file's order.
        examples: the chosen rows, kind by kind.
        numbers: the places of these rows in pairs.jsonl, from 1.
        refs: the pairs of each problem.
    """

    folder: PairsFolder
    counts: Mapping[str, int]
    confidences: Mapping[str, list[float]]
    funnel: Mapping[str, float]
    examples: tuple[Mapping[str, Any], ...]
    numbers: tuple[int, ...]
    refs: Mapping[str, list[PairRef]]

    @property
    def total(self) -> int:
        """Number of pairs."""
        return sum(self.counts.values())


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
        path: Directory of a `codealign pairs` run, or of a quickstart.
        shown: How many pairs of each kind to show; different problems come before a second pair of one.
        seed: Decides which.

    Raises:
        CodealignError: there is no pairs.jsonl, or a row of it is broken.
    """
    folder = locate(path)
    file = folder.pairs
    refs: defaultdict[str, list[PairRef]] = defaultdict(list)
    confidences: defaultdict[str, list[float]] = defaultdict(list)
    places: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, row in enumerate(read_jsonl(file)):
        _check_pair(row, f"{file}:{index + 1}")
        kind = str(row.get("kind", "unknown"))
        task_id = str(row.get("task_id", ""))
        places[kind].append((index, task_id))
        sure = float(row["confidence"]) if _finite(row.get("confidence")) else None
        if sure is not None:
            confidences[kind].append(sure)
        hashes = (str(row.get("chosen_sha", "")), str(row.get("rejected_sha", "")))
        refs[task_id].append(PairRef(index + 1, kind, *hashes, sure))
    order = [index for kind in sorted(places) for index in _choose(places[kind], shown, f"{seed}/{kind!a}")]
    # A second pass keeps memory flat: only the few shown rows are ever held.
    wanted = set(order)
    rows = {index: row for index, row in enumerate(read_jsonl(file)) if index in wanted}
    funnel = folder.funnel
    return PairsRun(
        folder,
        {kind: len(places[kind]) for kind in sorted(places)},
        {kind: confidences.get(kind, []) for kind in sorted(places)},
        _flat(read_object(funnel, "the counts of a `codealign pairs` run")) if funnel else {},
        tuple(rows[index] for index in order),
        tuple(index + 1 for index in order),
        dict(refs),
    )


def text_of(value: Any) -> str | None:
    """A text, or the texts of TRL's messages (`[{"role": ..., "content": ...}]`); None for anything else."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        return None
    texts = [message.get("content") if isinstance(message, Mapping) else None for message in value]
    found = [text for text in texts if isinstance(text, str)]
    return "\n\n".join(found) if len(found) == len(texts) else None


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
    """Refuses a row that is no preference pair of texts or of messages."""
    for key in ("prompt", "chosen", "rejected"):
        if text_of(row.get(key)) is None:
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
