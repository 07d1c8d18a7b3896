"""Made-up preference data: matrices, rankings, pairs and funnel in folders, as a quickstart leaves them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from codegen_eval.pairs.hygiene import sha
from codegen_eval.ranking.rows import RankOptions, ranking_row, read_matrix_row
from sandbox import PassMatrix, Verdict
from sandbox.matrix import UNKNOWN

VERDICTS = tuple(map(str, Verdict))
_STATES = {"1": VERDICTS.index("passed"), "0": VERDICTS.index("wrong_answer"), "?": UNKNOWN}
_STATES["x"] = VERDICTS.index("syntax_error")


def matrix_row(
    task_id: str, cells: list[str], drawn: list[int] | None = None, **texts: Any
) -> dict[str, Any]:
    """A row of matrices.jsonl.

    Args:
        task_id: The problem.
        cells: One text a program: 1 passed, 0 failed, ? unknown, x does not compile.
        drawn: How often each program was sampled.
        texts: `code` and `test`: prefixes of all programs and tests.
    """
    n, m = len(cells), len(cells[0])
    counts = drawn or [1] * n
    index = np.repeat(np.arange(n), counts)
    verdicts = np.array([[_STATES[c] for c in row] for row in cells], np.uint8).reshape(n, m)
    matrix = PassMatrix(verdicts, np.array(counts), np.ones(m, np.int64), index, np.arange(m))
    code, test = texts.get("code", ""), texts.get("test", "")
    return {
        "task_id": task_id,
        "entry_point": "f",
        "codes": [f"{code}def f(x):\n    return {i}\n" for i in range(n)],
        "tests": [
            {"text": f"{test}assert f({j}) == {j}", "source": "own" if j else "example"} for j in range(m)
        ],
        "matrix": matrix.to_json(),
        "counts": {"test_kept": m - 1, "test_example": 1, "test_no_call": 2},
    }


def ranked_row(row: dict[str, Any], ranker: str = "b4") -> dict[str, Any]:
    """The row of rankings.jsonl that belongs to a matrix."""
    return ranking_row(read_matrix_row(row), RankOptions(ranker))


def data_pair(row: dict[str, Any], chosen: int, rejected: int, **changes: Any) -> dict[str, Any]:
    """A row of pairs.jsonl with two programs of a matrix."""
    codes = row["codes"][chosen], row["codes"][rejected]
    return {
        "prompt": "",
        "chosen": codes[0],
        "rejected": codes[1],
        "kind": "correctness",
        "confidence": 0.875,
        "margin": 0.5,
        "chosen_score": -3.25,
        "rejected_score": -17.5,
        "task_id": row["task_id"],
        "chosen_sha": sha(codes[0]),
        "rejected_sha": sha(codes[1]),
        "ranker": "b4",
        "sources": ["own"],
        **changes,
    }


def write_data(
    folder: Path,
    matrices: Iterable[dict[str, Any]],
    pairs: Iterable[dict[str, Any]],
    *,
    rankings: bool = True,
    **funnel: int,
) -> Path:
    """Writes the folders of a quickstart and gives its path."""
    rows = list(matrices)
    files = {"matrices": rows, "pairs": list(pairs)}
    if rankings:
        files["rankings"] = [ranked_row(row) for row in rows]
    for name, content in files.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    (folder / "pairs/funnel.json").write_text(json.dumps({"problems": len(rows), **funnel}))
    return folder
