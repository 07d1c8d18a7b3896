"""The reward of a program that was run: a table by outcome, partial credit, and a term for speed.

The form is this project's own, after CodeRL's table (arXiv 2207.01780, datasets/utils.py) and ACECode's idea
of grading right programs by relative time (arXiv 2412.17264, whose constants could not be read and are not
claimed). Whatever the options, a right program is worth more than any wrong one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from codegen_eval.errors import CodealignError, unknown

STATUSES = ("no_code", "compile_error", "runtime_error", "timeout", "failed_test", "passed")


@dataclass(frozen=True, slots=True)
class ExecutionReward:
    """The table; made only if every right program ends above every wrong one.

    Attributes:
        no_code: No program in the answer.
        compile_error: It does not parse or compile.
        runtime_error: It raised, crashed, or did what the sandbox forbids.
        timeout: It was stopped.
        failed_test: It ran and was wrong.
        passed: It passed every test.
        partial_credit: Times the share of passed tests, added to `failed_test`.
        credit_failures: Added to `runtime_error` and `timeout` as well: a program that raises on one test may
            have passed the others.
        efficiency_weight: Times log2 of the reference's time over the program's, added to `passed`.
        ratio_floor: Least ratio of times that counts.
        ratio_cap: Largest.
        noise_band: Ratios with |log2| below it count as 1: noise of the clock is no merit.
    """

    no_code: float = -1.0
    compile_error: float = -1.0
    runtime_error: float = -0.6
    timeout: float = -0.6
    failed_test: float = -0.3
    passed: float = 1.0
    partial_credit: float = 0.0
    efficiency_weight: float = 0.0
    ratio_floor: float = 0.5
    ratio_cap: float = 2.0
    noise_band: float = 0.0
    credit_failures: bool = False

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if not math.isfinite(value):
                raise CodealignError(f"{name} is {value}: give a finite number")
        if min(self.partial_credit, self.efficiency_weight, self.noise_band) < 0:
            raise CodealignError("partial_credit, efficiency_weight and noise_band must be 0 or more")
        if not 0 < self.ratio_floor <= 1 <= self.ratio_cap:
            raise CodealignError(
                f"ratio_floor {self.ratio_floor} must lie in (0, 1], ratio_cap {self.ratio_cap} be 1 or more"
            )
        slowest = self.passed + self.efficiency_weight * math.log2(self.ratio_floor)
        # A wrong program passes fewer than all tests, so it stays below the bound that it may not exceed.
        best = max(self.no_code, self.compile_error, self.runtime_error, self.timeout, self.failed_test)
        credited = self.failed_test
        if self.credit_failures:
            credited = max(credited, self.runtime_error, self.timeout)
        if slowest <= best or credited + self.partial_credit > slowest:
            raise CodealignError(
                f"a slow right program would get {slowest:g}, not more than a wrong one, which may get up to "
                f"{max(best, credited + self.partial_credit):g}: lower "
                f"efficiency_weight ({self.efficiency_weight}), raise ratio_floor ({self.ratio_floor}) or "
                f"lower partial_credit ({self.partial_credit})"
            )


PRESETS = {
    "coderl": ExecutionReward(),
    "pass_rate": ExecutionReward(0.0, 0.0, 0.0, 0.0, 0.0, 1.0, partial_credit=1.0, credit_failures=True),
    "binary": ExecutionReward(0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
}
"""`coderl`: CodeRL's table. `pass_rate`: the share of passed tests. `binary`: 1 or 0."""


def execution_reward(
    table: ExecutionReward,
    status: str,
    passed: int,
    total: int,
    seconds: float | None = None,
    reference_seconds: float | None = None,
) -> float | None:
    """What one program is worth; None where the sandbox broke (`infra_error`): that says nothing of it.

    Args:
        table: The constants.
        status: One of `STATUSES`, or "infra_error".
        passed: Tests passed.
        total: Tests run, 1 or more.
        seconds: Its time, from the same session as the reference's; None for no efficiency term.
        reference_seconds: Time of the reference solution.

    Raises:
        CodealignError: For an unknown status, counts that do not fit it, or a time that is not above 0.
    """
    if status == "infra_error":
        return None
    if status not in STATUSES:
        raise unknown("status", status, (*STATUSES, "infra_error"))
    if not 0 <= passed <= total or total < 1:
        raise CodealignError(f"{passed} of {total} tests passed: counts do not fit")
    if (status == "passed") != (passed == total) and status in ("passed", "failed_test"):
        raise CodealignError(f"status {status!r} does not fit {passed} of {total} tests passed")
    base = float(getattr(table, status))
    if status == "failed_test" or (table.credit_failures and status in ("runtime_error", "timeout")):
        return base + table.partial_credit * passed / total
    if status != "passed" or seconds is None or reference_seconds is None:
        return base
    if not (0 < seconds < math.inf and 0 < reference_seconds < math.inf):
        raise CodealignError(f"times must be above 0 s, got {seconds} and {reference_seconds}")
    gain = math.log2(min(max(reference_seconds / seconds, table.ratio_floor), table.ratio_cap))
    return base + table.efficiency_weight * gain if abs(gain) >= table.noise_band else base
