"""What a benchmark is: a function from a data set's path and a split to a list of problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from codegen_eval.errors import CodealignError
from codegen_eval.records import Problem
from codegen_eval.registry import Registry

Reader = Callable[[Path | None, str | None], list[Problem]]

BENCHMARKS: Registry[Reader] = Registry(
    "benchmark", "codealign.benchmarks", package="codegen_eval.benchmarks"
)


def load(name: str, dataset: Path | None = None, split: str | None = None) -> list[Problem]:
    """The problems of a benchmark.

    Args:
        name: A registered benchmark.
        dataset: File or folder with its data, for benchmarks that do not ship with us; nothing downloads.
        split: A split that the benchmark knows; None is its default.

    Raises:
        CodealignError: For an unknown name (with the nearest), missing or broken data, a repeated task id.
    """
    problems = BENCHMARKS.get(name)(dataset, split)
    if not problems:
        raise CodealignError(f"benchmark {name!r} has no problems in {dataset or f'split {split!r}'}")
    twice = [task_id for task_id, count in Counter(p.task_id for p in problems).items() if count > 1]
    if twice:
        raise CodealignError(f"benchmark {name!r}: task ids occur more than once: {', '.join(twice[:5])}")
    return problems
