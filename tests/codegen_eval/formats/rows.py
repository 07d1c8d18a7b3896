"""Rows as `codealign eval` writes them, for the tests of other tools' formats."""

from __future__ import annotations

from typing import Any

PROMPTS = {"HumanEval/0": "def f(x):\n", "HumanEval/1": "def g(x):\n    # \u2028 ü\n"}
WORDS = {"passed": "passed", "timeout": "timed out"}


def row(task: int, sample: int, verdict: str, **changes: Any) -> dict[str, Any]:
    """One row of sample_results.jsonl."""
    return {
        "task_id": f"HumanEval/{task}",
        "sample": sample,
        "completion": f"    return {sample}  # \ud800 \x1b é\u2028\n",
        "passed": verdict == "passed",
        "result": WORDS.get(verdict, f"failed: {verdict}"),
        "verdict": verdict,
        "cause": "",
        **changes,
    }


ROWS = [
    row(0, 0, "passed"),
    row(0, 1, "wrong_answer"),
    row(0, 2, "timeout"),
    row(1, 0, "memory_limit", completion=None, solution="def g(x): return 1\n"),
    row(1, 1, "passed"),
    row(1, 2, "passed"),
]
