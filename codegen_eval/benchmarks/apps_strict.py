"""APPS with a judge that lets neither wrong order nor repetitions pass; `apps.py` says what differs."""

from __future__ import annotations

from pathlib import Path

from codegen_eval.benchmarks.apps import read
from codegen_eval.benchmarks.base import BENCHMARKS
from codegen_eval.records import Problem


@BENCHMARKS.register("apps_strict")
def apps_strict(dataset: Path | None, split: str | None) -> list[Problem]:
    """As `apps`, with outputs compared line by line, as text or as decimal numbers."""
    return read(dataset, split, "decimal_lines")
