"""Adaptive execution in the data job: a part's matrices are filled round by round, where B4 is undecided.

What is run next depends on what came out, so nothing can be handed over when a part is drawn: the thread that
finishes parts runs the rounds, while the model writes the next parts. Of a round all problems of the part run
at once. A part is written when it is whole, as with full execution, so a killed job runs a torn part again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from codegen_eval.datajob.flow import Meter
from codegen_eval.execution import Task, matrix_row
from codegen_eval.ranking.adaptive import AdaptiveOptions
from codegen_eval.ranking.adaptive_run import run_adaptive
from codegen_eval.ranking.rechecks import MatrixRunner
from sandbox import Limits, PassMatrix


def raced_rows(
    tasks: Sequence[Task],
    _: Sequence[PassMatrix],
    *,
    runner: MatrixRunner,
    options: AdaptiveOptions,
    drop_unloadable: bool,
    limits: Limits | None,
    meter: Meter,
) -> list[dict[str, Any]]:
    """Rows of `matrices.jsonl` with their `race`: how far each program came (`ranking/raced.py`).

    Args:
        tasks: The problems of a part.
        runner: Where programs run.
        options: Which cells are run.
        drop_unloadable: Programs that do not compile leave at once and count nowhere.
        limits: Of each execution.
        meter: Takes the counts.
    """
    jobs = [task.job(limits) for task in tasks]
    found = run_adaptive(jobs, runner, options, drop_unloadable=drop_unloadable)
    meter.prompts += len(tasks)
    meter.cells += sum(int(one.matrix.known.sum()) for one in found)
    meter.cells_spared += sum(one.saved for one in found)
    return [
        {**matrix_row(task, one.matrix), "race": one.race.to_json()}
        for task, one in zip(tasks, found, strict=True)
    ]


def spared(row: Mapping[str, Any]) -> Counter[str]:
    """Executions asked for and not, of a row of `matrices.jsonl` that was filled adaptively; else nothing."""
    if "race" not in row:
        return Counter()
    codes, tests = row["matrix"]["shape"]
    asked = sum(row["race"]["met"])
    return Counter(executions_made=asked, executions_spared=codes * tests - asked)
