"""What pairs and tests are worth by the hidden tests: for reports and tuning, never for making pairs.

Nothing of the pair job imports this module (a test holds that).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import to_test
from codegen_eval.records import Problem
from sandbox import Program, Result, Verdict


class Runner(Protocol):
    """What an audit needs of a sandbox."""

    def run(self, programs: Iterable[Program], *, all_tests: bool = False) -> Iterator[Result]:
        """Results of programs, in their order."""
        ...


def _right(programs: Sequence[Program], runner: Runner) -> list[bool]:
    return [result.verdict is Verdict.passed for result in runner.run(programs)]


def _find(problems: Mapping[str, Problem], task_id: str) -> Problem:
    if task_id not in problems:
        raise CodealignError(f"task {task_id!r} is not in the benchmark that the audit was given")
    return problems[task_id]


def pair_quality(
    pairs: Iterable[Mapping[str, Any]], problems: Iterable[Problem], runner: Runner
) -> dict[str, dict[str, float | int]]:
    """Shares of right programs among chosen and rejected ones, by the hidden tests.

    Args:
        pairs: Rows of `pairs.jsonl`.
        problems: The benchmark.
        runner: A sandbox.

    Returns:
        For each kind of pair: `pairs`; `chosen_right`; `rejected_wrong`; `both` (chosen right and rejected
        wrong); `inverted` (chosen wrong and rejected right), shares of the pairs.
    """
    by_id = {p.task_id: p for p in problems}
    rows = list(pairs)
    texts = dict.fromkeys(
        (str(row["task_id"]), str(row["prompt"]) + str(row[side]))
        for row in rows
        for side in ("chosen", "rejected")
    )
    programs = [
        Program(source, _find(by_id, task_id).entry_point, tuple(by_id[task_id].tests), id=task_id)
        for task_id, source in texts
    ]
    right = dict(zip(texts, _right(programs, runner), strict=True))
    outcomes: dict[str, list[tuple[bool, bool]]] = {}
    for row in rows:
        chosen, rejected = (
            right[str(row["task_id"]), str(row["prompt"]) + str(row[side])] for side in ("chosen", "rejected")
        )
        outcomes.setdefault(str(row["kind"]), []).append((chosen, rejected))
    return {kind: _shares(found) for kind, found in sorted(outcomes.items())}


def _shares(outcomes: Sequence[tuple[bool, bool]]) -> dict[str, float | int]:
    n = len(outcomes)
    return {
        "pairs": n,
        "chosen_right": sum(c for c, _ in outcomes) / n,
        "rejected_wrong": sum(not r for _, r in outcomes) / n,
        "both": sum(c and not r for c, r in outcomes) / n,
        "inverted": sum(r and not c for c, r in outcomes) / n,
    }


def own_test_quality(
    matrices: Iterable[Mapping[str, Any]], problems: Iterable[Problem], runner: Runner
) -> dict[str, dict[str, float | int]]:
    """Share of distinct tests that the reference solution passes.

    Args:
        matrices: Rows of `matrices.jsonl`.
        problems: The benchmark.
        runner: A sandbox.

    Returns:
        For each source (`own`, `example`): `tests` (distinct within a problem) and `right`, the share that
        holds.
    """
    by_id = {p.task_id: p for p in problems}
    programs: list[Program] = []
    sources: list[str] = []
    for row in matrices:
        problem = _find(by_id, str(row["task_id"]))
        reference = problem.reference
        for test in row["tests"]:
            check = to_test(str(test["text"]), problem.entry_point)
            programs.append(Program(reference, problem.entry_point, (check,), id=problem.task_id))
            sources.append(str(test["source"]))
    outcomes: dict[str, list[bool]] = {}
    for source, right in zip(sources, _right(programs, runner), strict=True):
        outcomes.setdefault(source, []).append(right)
    return {s: {"tests": len(r), "right": sum(r) / len(r)} for s, r in sorted(outcomes.items())}
