"""MiniPy: the embedded benchmark.

Sixty-eight families of small Python tasks with parameter slots make about twelve hundred problems of
HumanEval's shape. Each has a fast reference, correct but slow programs, plausible mistakes, hidden tests,
and inputs graded in four sizes. Train, tuning and test splits share no (family, parameters) pair.
"""

from __future__ import annotations

from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.minipy.build import SPLITS, problem, tasks
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.records import Problem


@BENCHMARKS.register("minipy")
def load(dataset: Path | None = None, split: str | None = None) -> list[Problem]:
    """The problems of a split (`test` when none is named).

    Raises:
        CodealignError: For a dataset path (MiniPy is built in) or a split that does not exist.
    """
    if dataset is not None:
        raise CodealignError(f"MiniPy is built in and takes no dataset, got {dataset}; leave --dataset out")
    if split not in (None, *SPLITS):
        raise unknown("split of MiniPy", str(split), SPLITS)
    return [problem(task) for task in tasks(split or "test")]
