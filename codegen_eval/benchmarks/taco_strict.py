"""TACO with a judge that lets neither wrong order nor repetitions pass; `taco.py` says what differs."""

from __future__ import annotations

from pathlib import Path

from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.benchmarks.taco import read
from codegen_eval.records import Problem


@BENCHMARKS.register("taco_strict")
def taco_strict(dataset: Path | None, split: str | None) -> list[Problem]:
    """As `taco`, with outputs compared line by line, as text or as decimal numbers."""
    return read(dataset, split, "decimal_lines")
