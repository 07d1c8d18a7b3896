"""Right or wrong on graded inputs: what a program answers is compared with what the reference answers.

The program's process gets arguments and gives plain data. Answers and checker are out of its reach: equality
is decided here, a checker of the benchmark's own runs as a program of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegen_eval.errors import CodealignError
from codegen_eval.metrics.enamel import HARDNESS
from codegen_eval.records import Graded, Problem
from sandbox import Answer, CallJob, Limits, Sandbox, Verdict

MEMORY_MB = 4096
REFERENCE_LIMITS = Limits(cpu_seconds=60.0, wall_seconds=240.0, memory_mb=MEMORY_MB)
# What stops a program is never what it is scored by: a right one must not fail by a busy machine.
LEAST_SECONDS, TIMES_REFERENCE = 1.0, 20.0
STOPPED = (Verdict.timeout, Verdict.memory_limit)
_GUARD = """

def __codealign_guard(*args):
    import time
    entry = {entry}
    entry(*args)
    names = ("time", "perf_counter", "process_time", "monotonic", "thread_time", "time_ns")
    own = [(n, getattr(time, n)) for n in names]
    return [n for n, f in own if type(f) is not type(len) or f.__self__ is not time or f.__name__ != n]
"""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Graded inputs with the reference's answers.

    Attributes:
        problem: The problem.
        graded: Its inputs.
        answers: The reference's, [level][test].
        limits: Of one call of a program.
    """

    problem: Problem
    graded: Graded
    answers: tuple[tuple[Any, ...], ...]
    limits: Limits

    def calls(self) -> list[tuple[Any, ...]]:
        """All argument tuples, level by level."""
        return [call for level in self.graded.levels for call in level]


@dataclass(frozen=True, slots=True)
class Grade:
    """What became of a program on graded inputs.

    Attributes:
        passed: Right on all that it completed, and it completed level 0.
        completed: Levels completed, from 0 on; the first other one stopped it.
        cause: Why it did not pass, or why it stopped; empty where neither.
    """

    passed: bool
    completed: int
    cause: str = ""


def gradable(problem: Problem) -> bool:
    """Whether programs for the problem can be timed: graded inputs and a reference are there."""
    return bool((problem.graded or problem.sizes) and problem.canonical_solution)


def weights(levels: int) -> tuple[float, ...]:
    """Hardness where a benchmark names none: ENAMEL's for four levels, else 0 for the first of several and 1
    for the others.
    """
    if levels == len(HARDNESS):
        return HARDNESS
    return (0.0,) * (levels > 1) + (1.0,) * (levels - (levels > 1))


def yardstick(problem: Problem, box: Sandbox) -> Yardstick:
    """Makes the inputs and asks the reference.

    Raises:
        CodealignError: If the problem has no graded inputs or no reference, or the reference fails.
    """
    if not gradable(problem):
        raise CodealignError(f"{problem.task_id}: no graded inputs or no reference to time against")
    graded = (
        problem.graded(box) if problem.graded else Graded(tuple(problem.sizes), weights(len(problem.sizes)))
    )
    calls = [call for level in graded.levels for call in level]
    job = CallJob(problem.reference, problem.entry_point, calls, REFERENCE_LIMITS)
    (answers,) = box.answers([job])
    places = [(level, test) for level, row in enumerate(graded.levels) for test in range(len(row))]
    for (level, test), answer in zip(places, answers, strict=True):
        if not answer.returned:
            raise CodealignError(
                f"{problem.task_id}: the reference itself fails on level {level}, test {test}: "
                f"{answer.verdict.value} {answer.cause}".rstrip()
            )
    slowest = max(answer.cpu_seconds for answer in answers)
    seconds = max(LEAST_SECONDS, TIMES_REFERENCE * slowest)
    values = iter(answer.value for answer in answers)
    rows = tuple(tuple(next(values) for _ in row) for row in graded.levels)
    return Yardstick(problem, graded, rows, Limits(seconds, 4 * seconds, MEMORY_MB))


def grade(measure: Yardstick, sources: Sequence[str], box: Sandbox) -> list[Grade]:
    """Grades whole programs.

    A program that is stopped (time, memory) at level 0 fails; at a later level it stays right, and completed
    the levels before. A wrong answer or an exception on any level that it reached fails it.
    """
    jobs = (_job(measure, source) for source in sources)
    found = [_graded(measure, answers, box) for answers in box.answers(jobs)]
    right = [source for source, given in zip(sources, found, strict=True) if given.passed]
    replaced = dict(zip(right, meddling(measure, right, box), strict=True))
    return [
        Grade(False, 0, f"violation: replaced time.{replaced[source]}") if replaced.get(source) else given
        for source, given in zip(sources, found, strict=True)
    ]


def _job(measure: Yardstick, source: str) -> CallJob:
    return CallJob(source, measure.problem.entry_point, measure.calls(), measure.limits, stop=True)


def _graded(measure: Yardstick, answers: Sequence[Answer], box: Sandbox) -> Grade:
    given = iter(answers)
    pairs: list[tuple[tuple[Any, ...], Any, Any]] = []
    completed, cause = 0, ""
    for level, expected in zip(measure.graded.levels, measure.answers, strict=True):
        for call, wanted in zip(level, expected, strict=True):
            answer = next(given)
            if not answer.returned:
                cause = f"level {completed}: {answer.verdict.value} {answer.cause}".rstrip()
                if answer.verdict not in STOPPED or completed == 0:
                    return Grade(False, completed, cause)
                break
            pairs.append((call, wanted, answer.value))
        else:
            completed += 1
            continue
        break
    wrong = next((i for i, right in enumerate(check(measure, pairs, box)) if not right), None)
    if wrong is not None:
        return Grade(False, completed, f"test {wrong}: wrong_answer")
    return Grade(True, completed, cause)


def check(
    measure: Yardstick, pairs: Sequence[tuple[tuple[Any, ...], Any, Any]], box: Sandbox
) -> Iterable[bool]:
    """Whether answers are right; `pairs` are (arguments, the reference's answer, the program's)."""
    if not measure.graded.checker:
        return [_equal(wanted, value) for _, wanted, value in pairs]
    if not pairs:
        return []
    job = CallJob(measure.graded.checker, "__check", pairs, REFERENCE_LIMITS)
    (found,) = box.answers([job])
    return [answer.value is True for answer in found]


def _equal(wanted: Any, value: Any) -> bool:
    try:
        return type(value) is type(wanted) and bool(value == wanted)
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        return False


def meddling(measure: Yardstick, sources: Sequence[str], box: Sandbox) -> Iterator[str]:
    """The clock that a program replaces, or nothing. It would gain nothing by that, since no clock of its own
    process is read, but a program that tries is no honest one.
    """
    owner, dot, method = measure.problem.entry_point.replace("()", "").rpartition(".")
    guard = _GUARD.format(entry=f"{owner}().{method}" if dot else method)
    call = measure.graded.levels[0][0]
    jobs = (CallJob(source + guard, "__codealign_guard", [call], measure.limits) for source in sources)
    for (answer,) in box.answers(jobs):
        names = answer.value if type(answer.value) is list else []
        yield str(names[0])[:20] if names else ""
