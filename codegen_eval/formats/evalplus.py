"""evalplus's `*_eval_results.json`: date, hash, and for each task a list of samples with their statuses.

The form is that of evalplus 0.3.1, which reads it back (`evalplus.evaluate --samples X.jsonl` takes
X_eval_results.json where it exists). Departs in one point: the failing inputs are left empty, as evalplus
leaves them for a sample that told nothing; our rows name a failing test in words, not as arguments.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from codegen_eval.errors import CodealignError
from codegen_eval.files import write_whole

Rows = list[dict[str, Any]]
Tests = Literal["base", "plus"]

_STATUS = {"passed": "pass", "timeout": "timeout"}
_VERDICT = {"pass": "passed", "fail": "failed", "timeout": "timeout"}
_RESULT = {"passed": "passed", "timeout": "timed out", "failed": "failed"}


def write_evalplus(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    prompts: Mapping[str, str],
    plus: bool,
    dataset_hash: str = "",
    date: datetime.datetime | None = None,
) -> None:
    """Writes rows of an evaluation in evalplus's form; the file appears only when it is complete.

    Args:
        path: The file; evalplus looks for SAMPLES_eval_results.json beside SAMPLES.jsonl.
        rows: Of sample_results.jsonl. With `plus`, a row that did not pass needs `base_verdict`, its verdict
            on the base tests alone: evalplus reports both.
        prompts: The prompt of each task, put before a completion; solutions stand as they are.
        plus: Whether the tests held evalplus's extra inputs; else `plus_status` is null.
        dataset_hash: Of the data, as evalplus computes it; it is only written, never compared.
        date: When it was evaluated; now where not given.

    Raises:
        CodealignError: For a row without what is needed (task and sample are named).
    """
    tasks: dict[str, Rows] = {}
    for row in sorted(rows, key=lambda row: int(row["sample"])):
        tasks.setdefault(row["task_id"], []).append(_entry(row, prompts, plus))
    when = date or datetime.datetime.now(datetime.UTC)
    content = {"date": when.strftime("%Y-%m-%d %H:%M"), "hash": dataset_hash, "eval": tasks}
    # ASCII, as evalplus writes it: it reads the file in the encoding of its locale.
    write_whole(path, [json.dumps(content).encode("ascii")])


def read_evalplus(path: Path, *, tests: Tests = "plus") -> Rows:
    """The samples of an evalplus result file as rows of ours, in the file's order.

    Args:
        path: The file.
        tests: `plus` counts a sample as right when it passes base and extra tests, or the base tests where
            the file has no others; `base` looks at the base tests alone.

    Returns:
        Rows with the verdicts passed, failed and timeout: evalplus tells no more.

    Raises:
        CodealignError: For a file that is missing, broken or of another form; the task is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CodealignError(f"cannot read {path}: {error}") from None
    tasks = content.get("eval") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not tasks:
        raise CodealignError(f"{path}: no evalplus result, which holds an object 'eval' of tasks")
    rows: Rows = []
    for task_id, entries in tasks.items():
        if not isinstance(entries, list) or not entries:
            raise CodealignError(
                f"{path}: task {task_id!r}: a list of samples is needed, got {type(entries).__name__} "
                "(files of evalplus before 0.3 have another form: evaluate anew)"
            )
        rows += [_row(e, task_id, n, tests, f"{path}: task {task_id!r}") for n, e in enumerate(entries)]
    return rows


def _entry(row: Mapping[str, Any], prompts: Mapping[str, str], plus: bool) -> dict[str, Any]:
    where = f"sample {row['sample']} of task {row['task_id']!r}"
    solution = row.get("solution")
    if solution is None:
        if row["task_id"] not in prompts:
            raise CodealignError(f"{where} is a completion and its task has no prompt to put before it")
        solution = prompts[row["task_id"]] + row["completion"]
    status = _STATUS.get(row["verdict"], "fail")
    base = status
    if plus and status != "pass":
        if not row.get("base_verdict"):
            raise CodealignError(f"{where} has no base_verdict, so its status on the base tests is unknown")
        base = _STATUS.get(row["base_verdict"], "fail")
    return {
        "task_id": row["task_id"],
        "solution": solution,
        "base_status": base,
        "plus_status": status if plus else None,
        "base_fail_tests": [],
        "plus_fail_tests": [],
    }


def _row(entry: Any, task_id: str, number: int, tests: Tests, where: str) -> dict[str, Any]:
    where = f"{where}, sample {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("solution"), str):
        raise CodealignError(f"{where}: needs a solution (text)")
    statuses = [entry.get("base_status"), entry.get("plus_status")]
    for status in statuses:
        if status is not None and status not in _VERDICT:
            raise CodealignError(f"{where}: unknown status {status!r}; there are pass, fail, timeout")
    if statuses[0] is None:
        raise CodealignError(f"{where}: has no base_status")
    # evalplus counts a sample as right under its extra tests only when it passes both.
    counted = statuses[:1] if tests == "base" or statuses[1] is None else statuses
    verdict = next((_VERDICT[str(status)] for status in counted if status != "pass"), "passed")
    return {
        "task_id": task_id,
        "sample": number,
        "solution": entry["solution"],
        "passed": verdict == "passed",
        "result": _RESULT[verdict],
        "verdict": verdict,
        "cause": "",
        "base_verdict": _VERDICT[str(statuses[0])],
    }
