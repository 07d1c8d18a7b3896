"""What became of a completion's program, between the sandbox's verdict and the reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from alignment.rewards.execution import PRESETS, STATUSES
from alignment.rewards.execution import ExecutionReward as Table
from alignment.rewards.speed import Speed
from codegen_eval.errors import CodealignError, unknown
from sandbox import Result, Verdict

INFRA = "infra_error"
_STATUS = {
    Verdict.passed: "passed",
    Verdict.wrong_answer: "failed_test",
    Verdict.timeout: "timeout",
    Verdict.syntax_error: "compile_error",
}  # the rest: runtime_error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one completion.

    Attributes:
        status: One of `execution.STATUSES`, or `infra_error`.
        passed: Tests passed; counted to the first failure alone where the table has no partial credit.
        total: Tests.
        verdict: The sandbox's; empty where nothing was run.
        speed: How it was timed; None where it was not.
        reward: None for `infra_error`.
    """

    status: str
    passed: int
    total: int
    verdict: str = ""
    speed: Speed | None = None
    reward: float | None = None


def table_of(preset: str, options: Mapping[str, float]) -> Table:
    """A preset's table with some constants of one's own.

    Raises:
        CodealignError: For an unknown preset or constant, or a table that would pay some wrong program as
            much as a right one.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    known = [field.name for field in fields(Table)]
    for name, value in options.items():
        if name not in known:
            raise unknown("constant of the reward", name, known)
        if not isinstance(value, int | float):
            raise CodealignError(f"table: {name} is {value!r}; give a number")
    return replace(PRESETS[preset], **dict[str, Any](options))


def outcome_of(result: Result, total: int) -> Outcome:
    """What the sandbox's result of a program with `total` tests means."""
    passed = sum(cell.verdict is Verdict.passed for cell in result.cells)
    status = _STATUS.get(result.verdict, "runtime_error")
    return Outcome(status, passed, total, result.verdict.value)


def timed(outcome: Outcome, speed: Speed | None) -> Outcome:
    """The outcome with its speed.

    A program that is wrong on what it was timed on is a wrong program; one whose timing the sandbox lost has
    no reward, as those beside it have a term for speed.
    """
    if speed is None:
        return replace(outcome, status=INFRA)
    if speed.wrong:
        return replace(outcome, status="failed_test", total=outcome.total + 1, speed=None)
    return replace(outcome, speed=speed)


def figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """What a trainer logs of a batch: shares of all completions, and means of what was measured."""
    size = len(outcomes)
    counts = Counter(outcome.status for outcome in outcomes)
    found = {status: counts[status] / size for status in (*STATUSES, INFRA)}
    found["violation"] = sum(o.verdict == Verdict.violation.value for o in outcomes) / size
    known = [o for o in outcomes if o.status != INFRA and o.total]
    if known:
        found["tests_passed"] = sum(o.passed / o.total for o in known) / len(known)
    gains = [o.speed.log2_gain for o in outcomes if o.speed is not None and o.speed.log2_gain is not None]
    if gains:
        found["log2_speedup"] = sum(gains) / len(gains)
    return found
