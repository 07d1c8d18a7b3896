"""The ENAMEL authors' procedure, to compare with their table (Qiu et al. 2024, arXiv 2406.06647).

To the letter: one time limit of alpha times the reference's slowest level for all levels; an alarm of wall
time at that limit plus `TOLERANCE` over compiling, top level and call together; wall time of the call alone,
`repeats` of each test (one at levels of weight 0), Hodges-Lehmann over them, the slowest test of a level;
tests in order of level, test, repetition; a stop at level 0 fails, a later one censors; a new namespace and
new inputs for each execution, no garbage collector, `print` and `input` None, 4 GiB of memory; the reference
timed once, right before the programs.

Departs in two points. A program runs in a box of its own, one process for its executions on a level: it
cannot reach the evaluator, another program, the checker or an answer, and its memory limit is not shared with
the test data. And a program that swallows the alarm is ended from outside, where it hangs the authors' code.
The clock is read inside the program's process, as theirs is, but not where a program that replaces functions
of `time` finds it; against one that takes the harness apart only `robust` holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from codegen_eval.efficiency.grading import MEMORY_MB, Yardstick, check, meddling, yardstick
from codegen_eval.efficiency.scores import Score, Scored, Settings, failed
from codegen_eval.errors import CodealignError
from codegen_eval.metrics.enamel import level_seconds, score_levels, time_limit
from codegen_eval.records import Problem
from sandbox import CallJob, Limits, Sandbox

TOLERANCE = 0.01
STOPPED = ("TimeoutException", "MemoryError", "OverflowError")
_REFERENCE_ALARM = 60.0

_HARNESS = """
import gc as _gc, signal as _signal, time as _time

class TimeoutException(Exception):
    pass

def _alarm(number, frame):
    raise TimeoutException()

def __run(code, entry, alarm, arguments, clock=_time.time, set_timer=_signal.setitimer):
    _gc.disable()
    kind = 0  # ITIMER_REAL
    scope = {"time": _time, "input": None, "print": None, "__input": arguments}
    _signal.signal(_signal.SIGALRM, _alarm)
    try:
        set_timer(kind, alarm)
        try:
            exec(compile(code, "<solution>", "exec", dont_inherit=True), scope)
            function = eval(entry, scope)
            begin = clock()
            output = function(*arguments)
            end = clock()
        finally:
            set_timer(kind, 0)
    except BaseException as error:
        return type(error).__name__, None, 0.0
    return "", output, end - begin
"""


def compat(problem: Problem, sources: Sequence[str], box: Sandbox, settings: Settings) -> Scored:
    """Scores whole programs against the problem's reference, the authors' way.

    Raises:
        CodealignError: If the problem has no graded inputs, or its reference fails or cannot be timed.
    """
    measure = yardstick(problem, box)
    hardness = measure.graded.hardness
    weighted = [level for level, weight in enumerate(hardness) if weight > 0]
    reference = _Execution(measure, problem.reference, _REFERENCE_ALARM, settings, box)
    own: list[float | None] = [None] * len(hardness)
    for level in weighted:
        seconds = reference.level(level)
        if seconds is None:
            raise CodealignError(
                f"{problem.task_id}: the reference could not be timed on level {level}: {reference.cause}"
            )
        own[level] = level_seconds(seconds)
    limit = time_limit([t or 0.0 for t in own], hardness, settings.alpha)
    scores = [_score(measure, source, own, limit, settings, box) for source in sources]
    return Scored(tuple(scores), tuple(own), limit)


def _score(
    measure: Yardstick,
    source: str,
    own: Sequence[float | None],
    limit: float,
    settings: Settings,
    box: Sandbox,
) -> Score:
    hardness = measure.graded.hardness
    run = _Execution(measure, source, limit + TOLERANCE, settings, box)
    times: list[float | None] = []
    for level in range(len(hardness)):
        seconds = run.level(level)
        if run.wrong or (level == 0 and seconds is None):
            return failed(hardness, f"level {level}: {run.cause}")
        if seconds is None:
            break
        times.append(level_seconds(seconds))
    (clock,) = meddling(measure, [source], box)
    if clock:
        return failed(hardness, f"violation: replaced time.{clock}")
    times += [None] * (len(hardness) - len(times))
    found = score_levels([t or 0.0 for t in own], times, hardness, settings.alpha)
    return Score(True, found.value, found.levels, run.cause and f"stopped: {run.cause}", tuple(times))


class _Execution:
    """One program's executions on a problem, level by level."""

    def __init__(
        self, measure: Yardstick, source: str, alarm: float, settings: Settings, box: Sandbox
    ) -> None:
        owner, dot, method = measure.problem.entry_point.replace("()", "").rpartition(".")
        self._measure = measure
        self._head = (source, f"{owner}().{method}" if dot else method, alarm)
        self._repeats = settings.repeats
        self._box = box
        # Ends what swallows the alarm; the alarm comes first.
        self._limits = Limits(10 * alarm + 5, 40 * alarm + 20, MEMORY_MB)
        self.wrong = False
        self.cause = ""

    def level(self, level: int) -> list[list[float]] | None:
        """Seconds [test][repetition]; None where it was stopped, or was `wrong`."""
        graded = self._measure.graded
        repeats = self._repeats if graded.hardness[level] > 0 else 1
        tests = [i for i in range(len(graded.levels[level])) for _ in range(repeats)]
        calls = [(*self._head, graded.levels[level][test]) for test in tests]
        job = CallJob(_HARNESS, "__run", calls, self._limits, stop=True)
        (answers,) = self._box.answers([job])
        seconds: list[list[float]] = [[] for _ in graded.levels[level]]
        given: list[tuple[tuple[Any, ...], Any, Any]] = []
        stopped = False
        for test, answer in zip(tests, answers, strict=False):
            error, output, taken = _read(answer.value) if answer.returned else (answer.verdict.value, None, 0)
            if error:
                self.cause = error
                stopped = error in STOPPED or error in ("timeout", "memory_limit")
                self.wrong = not stopped
                break
            given.append((graded.levels[level][test], self._measure.answers[level][test], output))
            seconds[test].append(float(taken))
        if not all(check(self._measure, given, self._box)):
            self.wrong, self.cause = True, "wrong answer"
        return None if stopped or self.wrong else seconds


def _read(value: Any) -> tuple[str, Any, float]:
    """What the harness gave; a program that made something else of it is wrong."""
    if type(value) is tuple and len(value) == 3 and type(value[0]) is str and type(value[2]) is float:
        return value if value[2] >= 0 else ("clock ran backwards", None, 0.0)
    return "no answer of the harness", None, 0.0
