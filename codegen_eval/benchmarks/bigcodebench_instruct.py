"""BigCodeBench's instruct form: a chat model is asked in prose and answers with a whole program.

All else is as in `bigcodebench.py`.
"""

from __future__ import annotations

from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.bigcodebench import read
from codegen_eval.records import Problem


@BENCHMARKS.register("bigcodebench_instruct")
def bigcodebench_instruct(dataset: Path | None, split: str | None) -> list[Problem]:
    """As `bigcodebench`, asked in prose."""
    return read(dataset, split, instruct=True)
