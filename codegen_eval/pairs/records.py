"""The values of pair building: a checked ranking row and a pair; pairs as TRL preference rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from codegen_eval.errors import CodealignError
from codegen_eval.pairs.hygiene import sha
from codegen_eval.ranking.common import ScoreKind, tie_levels
from codegen_eval.ranking.rows import MatrixRow
from codegen_eval.records import Prompt

PairKind = Literal["correctness", "efficiency"]


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A checked row of `rankings.jsonl`.

    Attributes:
        scores: One per program; None for a program that was left out of the ranking.
        best: All equally best programs.
        level: Place of each program's tied level, 0 = best; None for a program without score.
        levels: Number of levels.
        kind: What score differences mean.
    """

    ranker: str
    scores: tuple[float | None, ...]
    best: tuple[int, ...]
    level: tuple[int | None, ...]
    levels: int
    kind: ScoreKind
    informative: bool


def read_ranking_row(row: Mapping[str, Any], matrix: MatrixRow) -> RankedRow:
    """Checks a row of `rankings.jsonl` against its matrix; a CodealignError names what does not fit."""
    try:
        scores = tuple(None if s is None else float(s) for s in row["scores"])
        best = tuple(int(i) for i in row["best"])
        ranker, kind, informative = str(row["ranker"]), row["kind"], bool(row["informative"])
    except (KeyError, TypeError, ValueError) as error:
        raise CodealignError(
            f"not a row of rankings.jsonl (task {matrix.task_id!r}): {type(error).__name__}: {error}"
        ) from error
    if len(scores) != len(matrix.codes) or any(not 0 <= i < len(scores) for i in best):
        raise CodealignError(
            f"task {matrix.task_id!r}: the ranking has {len(scores)} programs, the matrix "
            f"{len(matrix.codes)}; rank this matrices.jsonl again"
        )
    if kind not in ("log_posterior", "ordinal", "none"):
        raise CodealignError(f"task {matrix.task_id!r}: unknown kind of scores {kind!r} in the ranking")
    scored = [i for i, s in enumerate(scores) if s is not None]
    levels = tie_levels([s for s in scores if s is not None])
    level: list[int | None] = [None] * len(scores)
    for number, members in enumerate(levels):
        for member in members:
            level[scored[member]] = number
    return RankedRow(ranker, scores, best, tuple(level), len(levels), kind, informative)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two programs of one matrix row, by index.

    Attributes:
        chosen: The better program.
        rejected: The worse one.
        kind: What it is better at.
        confidence: In [0.5, 1], how sure the order is.
        margin: Share of tests passed by the chosen minus that of the rejected.
    """

    chosen: int
    rejected: int
    kind: PairKind
    confidence: float
    margin: float


def completion_of(code: str, prompt: Prompt) -> str:
    """The program text after the prompt; a CodealignError if the program does not start with it."""
    if not code.startswith(prompt.prompt):
        raise CodealignError(
            f"task {prompt.task_id!r}: a program of the matrix does not start with the benchmark's prompt; "
            "give the benchmark, data set and split that `codealign execute` was given"
        )
    return code[len(prompt.prompt) :]


def trl_row(pair: Pair, matrix: MatrixRow, ranker: str, prompt: Prompt) -> dict[str, Any]:
    """One row of `pairs.jsonl`: TRL's `prompt`, `chosen`, `rejected` and where they come from."""
    chosen, rejected = matrix.codes[pair.chosen], matrix.codes[pair.rejected]
    return {
        "prompt": prompt.prompt,
        "chosen": completion_of(chosen, prompt),
        "rejected": completion_of(rejected, prompt),
        "kind": pair.kind,
        "confidence": round(pair.confidence, 6),
        "margin": round(pair.margin, 6),
        "task_id": matrix.task_id,
        "chosen_sha": sha(chosen),
        "rejected_sha": sha(rejected),
        "ranker": ranker,
        "sources": sorted(set(matrix.sources)),
    }
