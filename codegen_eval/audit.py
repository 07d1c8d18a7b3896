"""What a benchmark's own tests are worth: references must pass, wrong programs fail, and again alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen_eval.efficiency.robust import robust
from codegen_eval.efficiency.scores import Settings
from codegen_eval.errors import CodealignError
from codegen_eval.mutants import Mutant, mutants, nothing
from codegen_eval.oracles import answered
from codegen_eval.records import Problem
from codegen_eval.running import outcome
from codegen_eval.store import Outcome
from sandbox import Sandbox, Verdict


@dataclass(frozen=True, slots=True)
class Finding:
    """What an audit says of one task.

    Attributes:
        task_id: The task.
        reference: `passed`, or the verdict and cause of the reference's first run that did not pass; empty
            where there is no reference.
        verdicts: Verdicts of the reference's runs; more than one value means that a test is flaky.
        mutants: How many wrong programs were tried.
        survivors: What was changed in those that passed all tests.
        empty_passes: The body that returns nothing passes.
        efficiency: Score of the reference against itself, where there are graded inputs: 1, but for noise.
    """

    task_id: str
    reference: str
    verdicts: tuple[str, ...] = ()
    mutants: int = 0
    survivors: tuple[str, ...] = ()
    empty_passes: bool = False
    efficiency: float | None = None

    @property
    def flaky(self) -> bool:
        """Whether the reference's runs differ."""
        return len(set(self.verdicts)) > 1

    @property
    def sound(self) -> bool:
        """Whether the reference passes every time and the empty body fails."""
        return self.reference in ("passed", "") and not self.flaky and not self.empty_passes

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "task_id": self.task_id,
            "reference": self.reference,
            "verdicts": list(self.verdicts),
            "flaky": self.flaky,
            "mutants": self.mutants,
            "survivors": list(self.survivors),
            "empty_passes": self.empty_passes,
            "efficiency": self.efficiency,
            "sound": self.sound,
        }


@dataclass(slots=True)
class _Plan:
    problem: Problem
    runs: int
    empty: Mutant | None = None
    changed: list[Mutant] = field(default_factory=list)

    def sources(self) -> list[str]:
        wrong = ([self.empty] if self.empty else []) + self.changed
        return [self.problem.reference] * self.runs + [mutant.source for mutant in wrong]


def audit(
    problems: Sequence[Problem], box: Callable[[], Sandbox], *, runs: int = 3, most_mutants: int = 10
) -> Iterator[Finding]:
    """One finding a problem, in order, as they come.

    Args:
        problems: Of a benchmark. Those whose only tests are graded inputs are scored once, and get no mutants
            but the one that returns nothing.
        box: Gives the sandbox.
        runs: How often each reference is run.
        most_mutants: Wrong programs a problem, besides the one that returns nothing.

    Raises:
        SandboxError: The engine failed repeatedly.
    """
    for problem in problems:
        if not problem.reference:
            yield Finding(problem.task_id, "")
            continue
        if problem.graded and not problem.tests and problem.oracle is None:
            yield _graded(problem, box())
            continue
        try:
            (ready,) = answered([problem], box())
        except CodealignError as error:
            yield Finding(problem.task_id, str(error), ("runtime_error",))
            continue
        plan = _plan(ready, runs, most_mutants)
        results = box().run(ready.program(source) for source in plan.sources())
        yield _finding(plan, [outcome(result) for result in results])


def _graded(problem: Problem, box: Sandbox) -> Finding:
    empty = nothing(problem.reference, problem.entry_point)
    sources = [problem.reference] + ([empty.source] if empty else [])
    try:
        own, *wrong = robust(problem, sources, box, Settings()).scores
    except CodealignError as error:
        return Finding(problem.task_id, str(error), ("runtime_error",))
    said = "passed" if own.passed else own.cause
    passes = any(score.passed for score in wrong)
    return Finding(problem.task_id, said, (said,), len(wrong), (), passes, own.value)


def _plan(problem: Problem, runs: int, most: int) -> _Plan:
    plan = _Plan(problem, runs)
    if problem.language == "python":
        plan.empty = nothing(problem.reference, problem.entry_point) if problem.entry_point else None
        plan.changed = mutants(problem.reference, most=most)
    return plan


def _finding(plan: _Plan, found: Sequence[Outcome]) -> Finding:
    own, wrong = found[: plan.runs], list(found[plan.runs :])
    failed = next((given for given in own if given.verdict is not Verdict.passed), None)
    said = "passed" if failed is None else f"{failed.verdict.value} {failed.cause}".rstrip()
    empty = wrong.pop(0) if plan.empty else None
    survivors = [
        mutant.what
        for mutant, given in zip(plan.changed, wrong, strict=True)
        if given.verdict is Verdict.passed
    ]
    return Finding(
        plan.problem.task_id,
        said,
        tuple(given.verdict.value for given in own),
        len(found) - plan.runs,
        tuple(survivors),
        empty is not None and empty.verdict is Verdict.passed,
    )
