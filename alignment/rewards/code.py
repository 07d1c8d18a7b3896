"""The reward of a completion by execution, `execution` in recipes: its program is run on tests, maybe timed.

Asynchronous, so that a trainer goes on generating while programs run; TRL's GRPO and RLOO take it as it is.
What happened becomes a number by execution.py alone. What the sandbox could not run has no reward.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment.rewards.execution import execution_reward
from alignment.rewards.outcomes import INFRA, Outcome, figures, outcome_of, table_of, timed
from alignment.rewards.pool import Pool
from alignment.rewards.protocol import LogExtra, LogMetric, Rewards, column
from alignment.rewards.registry import REWARDS
from alignment.rewards.speed import Stopwatch
from alignment.rewards.tasks import (
    COLUMN,
    SHOWN,
    Problems,
    check_disjoint,
    check_pool,
    overlap,
    pool_tests,
    program_of,
    shown_tests,
)
from codegen_eval.errors import CodealignError
from codegen_eval.oracles import answered
from codegen_eval.records import Problem
from codegen_eval.running import too_long
from sandbox import Limits, Program, Sandbox, Verdict
from sandbox.program import Test


@REWARDS.register("execution")
class CodeReward:
    """Runs the program in each completion on a pool of its problem's tests.

    Args:
        benchmark: Registered benchmark whose problems the column `task_id` names; None takes them from the
            prompt and the column `entry_point`.
        split: Of the benchmark.
        dataset: The benchmark's data, where it does not ship with us.
        tests: `shown`, `hidden`, a group of the benchmark's tests, or `column:NAME` (see tasks.py).
        disjoint: Refuse a problem whose prompt shows an input that the pool pays for.
        preset: `coderl`, `pass_rate` or `binary`.
        table: Constants that differ from the preset's, as `{"partial_credit": 0.5}`.
        extraction: How the program is found in a completion (see tasks.py).
        level: Which of a problem's graded sizes programs are timed on, counted from 0 or from the end; used
            where the table has an `efficiency_weight`.
        repeats: Rounds of timing.
        executor: Where programs run: local, ray, http, or another distribution's.
        executor_options: Its options, as `{"workers": 4}`.
        cpu_seconds: Of one test, where the benchmark has no limits of its own.
        wall_seconds: Likewise.
        memory_mb: Likewise.
        max_infra_rate: See pool.py.
        cache: See pool.py.
        problems: Problems of one's own, instead of a benchmark.
        pool: A sandbox to share with other rewards, instead of one by the options above.

    Raises:
        CodealignError: For an unknown name, a table that breaks the order, problems that cannot be timed, or
            a shown test in the pool.
    """

    def __init__(
        self,
        *,
        benchmark: str | None = None,
        split: str | None = None,
        dataset: str | Path | None = None,
        tests: str = SHOWN,
        disjoint: bool = False,
        preset: str = "coderl",
        table: Mapping[str, float] | None = None,
        extraction: str = "auto",
        level: int = -1,
        repeats: int = 3,
        executor: str = "local",
        executor_options: Mapping[str, Any] | None = None,
        cpu_seconds: float = 1.0,
        wall_seconds: float = 6.0,
        memory_mb: int = 512,
        max_infra_rate: float = 0.5,
        cache: str | None = None,
        problems: Sequence[Problem] | None = None,
        pool: Pool | None = None,
    ) -> None:
        check_pool(tests)
        self.table = table_of(preset, table or {})
        self.pool = pool or Pool(
            executor, executor_options, _limits(cpu_seconds, wall_seconds, memory_mb), max_infra_rate, cache
        )
        self.tests = tests
        self.counts: Counter[str] = Counter()
        self.last: tuple[Outcome, ...] = ()
        self.__name__ = "execution"
        self._extraction = extraction
        self._disjoint = disjoint
        self._problems = Problems(benchmark, split, dataset, problems)
        self._answered: dict[str, Problem] = {}
        self._stopwatch = Stopwatch(self.pool, level, repeats) if self.table.efficiency_weight else None
        known = list((self._problems.by_id or {}).values())
        if disjoint and not tests.startswith(COLUMN):
            check_disjoint([problem for problem in known if problem.oracle is None], tests)
        if self._stopwatch is not None:
            self._stopwatch.check(known)

    async def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_extra: LogExtra | None = None,
        log_metric: LogMetric | None = None,
        **columns: Any,
    ) -> Rewards:
        """One reward a completion; None where the sandbox failed.

        Args:
            prompts: Texts or messages, one a completion.
            completions: What was generated.
            completion_ids: Not read.
            log_extra: Takes the columns `status` and `tests_passed`.
            log_metric: Takes the share of each status, of `violation`, and of distinct programs.
            columns: `task_id`, or what tasks.py says.

        Raises:
            CodealignError: For a column that is missing, an unknown task, or one without tests in the pool.
            SandboxError: If too many programs could not be run.
        """
        if len(prompts) != len(completions):
            raise CodealignError(f"{len(prompts)} prompts do not fit {len(completions)} completions")
        outcomes = await self.outcomes(prompts, completions, columns)
        self.last = tuple(outcomes)
        self.counts.update(outcome.status for outcome in outcomes)
        self.counts["violation"] += sum(o.verdict == Verdict.violation.value for o in outcomes)
        if log_metric is not None and outcomes:
            for name, value in figures(outcomes).items():
                log_metric(f"{self.__name__}/{name}", value)
        if log_extra is not None:
            log_extra(f"{self.__name__}_status", [outcome.status for outcome in outcomes])
            log_extra(f"{self.__name__}_passed", [f"{o.passed}/{o.total}" for o in outcomes])
        return [outcome.reward for outcome in outcomes]

    async def outcomes(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[Outcome]:
        """What became of each completion; equal programs of a problem are run, and timed, once."""
        problems = self._problems.of(prompts, columns)
        asserted: list[Any] = [None] * len(problems)
        if self.tests.startswith(COLUMN):
            name = self.tests.removeprefix(COLUMN)
            asserted = column(dict(columns), name, len(problems), "whose tests pay")
        if self.tests != SHOWN and any(problem.oracle is not None for problem in problems):
            problems = await asyncio.to_thread(self._with_answers, problems)
        work: dict[tuple[Any, ...], _Work] = {}
        keys = []
        for problem, completion, texts in zip(problems, completions, asserted, strict=True):
            tests = self._tests(problem, texts)
            source = program_of(problem, completion, self._extraction).solution
            key = (problem.task_id, problem.prompt, source, str(texts))
            work.setdefault(key, _Work(problem, source, tests))
            keys.append(key)
        found = dict(zip(work, await self._judged(list(work.values())), strict=True))
        return [found[key] for key in keys]

    async def _judged(self, work: Sequence[_Work]) -> list[Outcome]:
        """Correctness of all at once; then, where it is paid for, times, one problem after the other."""
        tasks = [asyncio.ensure_future(self._run(item)) for item in work]
        try:
            found = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
        if self._stopwatch is not None:
            right: dict[int, list[int]] = {}
            for place, outcome in enumerate(found):
                if outcome.status == "passed":
                    right.setdefault(id(work[place].problem), []).append(place)
            for places in right.values():
                sources = [work[place].source for place in places]
                speeds = await self._stopwatch.time(work[places[0]].problem, sources)
                for place, speed in zip(places, speeds, strict=True):
                    found[place] = timed(found[place], speed)
        return [self._paid(outcome) for outcome in found]

    async def _run(self, item: _Work) -> Outcome:
        total = len(item.tests)
        if not item.source:
            return Outcome("no_code", 0, total)
        if too_long(item.source):
            return Outcome("compile_error", 0, total)
        problem = item.problem
        limits = problem.limits or self.pool.limits
        program = Program(
            item.source, problem.entry_point, item.tests, problem.task_id, limits, problem.language
        )
        result = await self.pool.run(program, all_tests=self.table.partial_credit > 0)
        return Outcome(INFRA, 0, total) if result is None else outcome_of(result, total)

    def _paid(self, outcome: Outcome) -> Outcome:
        speed = outcome.speed
        times = (speed.seconds, speed.reference_seconds) if speed is not None else (None, None)
        reward = execution_reward(self.table, outcome.status, outcome.passed, outcome.total, *times)
        return replace(outcome, reward=reward)

    def _tests(self, problem: Problem, asserted: Any) -> tuple[Test, ...]:
        tests = pool_tests(problem, self.tests, asserted)
        if not tests:
            raise CodealignError(
                f"task {problem.task_id!r} has no test in the pool {self.tests!r}, so nothing says whether a "
                "program is right: leave it out of the data, or take another pool"
            )
        if self._disjoint and (shared := overlap(problem, tests, shown_tests(problem))):
            raise CodealignError(
                f"task {problem.task_id!r} shows tests that the pool {self.tests!r} pays for: "
                f"{'; '.join(shared[:5])}"
            )
        return tests

    def _with_answers(self, problems: Sequence[Problem]) -> list[Problem]:
        """The problems with the tests that their oracles' references answer; each is asked once."""
        fresh = {p.task_id: p for p in problems if p.oracle is not None and p.task_id not in self._answered}
        if fresh:
            with Sandbox(1) as box:
                for problem in answered(list(fresh.values()), box):
                    self._answered[problem.task_id] = problem
        return [self._answered[p.task_id] if p.oracle is not None else p for p in problems]

    def close(self) -> None:
        """End the sandbox's workers."""
        self.pool.close()


@dataclass(frozen=True, slots=True)
class _Work:
    problem: Problem
    source: str
    tests: tuple[Test, ...]


def _limits(cpu_seconds: float, wall_seconds: float, memory_mb: int) -> Limits:
    try:
        return Limits(cpu_seconds, wall_seconds, memory_mb)
    except ValueError as error:
        raise CodealignError(str(error)) from None
