"""What the problems of a results.json say, one number a problem: the values that figures are means of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_eval.metrics.eff_at_k import eff_values as _eff_values
from codegen_eval.metrics.pass_at_k import pass_at_k

Problems = Sequence[Mapping[str, Any]]


def pass_values(problems: Problems, k: int) -> NDArray[np.float64]:
    """pass@k of each problem from its `n` and `c`, shape (problems,).

    Raises:
        CodealignError: As `pass_at_k`, naming the task.
    """
    ids = [problem["task_id"] for problem in problems]
    return pass_at_k([p["n"] for p in problems], [p["c"] for p in problems], k, task_ids=ids)


def eff_values(problems: Problems, k: int) -> NDArray[np.float64]:
    """eff@k of each problem from `eff`, its samples' scores, shape (problems,).

    Raises:
        CodealignError: As `eff_at_k`, naming the task.
    """
    return _eff_values([p["eff"] for p in problems], k, task_ids=[p["task_id"] for p in problems])


def slow_counts(problems: Problems) -> tuple[list[int], list[int]]:
    """Slow and right samples of each problem; a problem that was not timed counts with neither."""
    timed = [problem.get("slow") is not None for problem in problems]
    slow = [problem["slow"] if ok else 0 for problem, ok in zip(problems, timed, strict=True)]
    right = [problem["c"] if ok else 0 for problem, ok in zip(problems, timed, strict=True)]
    return slow, right
