"""Expected answers that a reference gives: it is run in the sandbox, and its answers become the hidden tests.

As in EvalPlus (Liu et al. 2023, arXiv 2305.01210), each input may take four times as long as the reference.
Departs in one point: the time of a single call of many is not known, so it is four times the reference's time
for all inputs of the task, where that is more than the task's own limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from codegen_eval.errors import CodealignError
from codegen_eval.records import Oracle, Problem
from sandbox import Answer, CallJob, CallTest, Limits, Sandbox
from sandbox.program import Test

TIMES_REFERENCE = 4.0
_REFERENCE_SECONDS = 60.0  # of each call of a reference
_WALL = 4.0  # wall-clock seconds a CPU second


def answered(problems: Sequence[Problem], box: Sandbox) -> list[Problem]:
    """The problems, with a test for every input of their oracles behind the tests they had, and no oracle.

    Equal references with equal inputs are run once. `meta["groups"]`, where a benchmark gives it, says which
    tests belong together, as `{"base": (0, 9), "plus": (9, 80)}`.

    Args:
        problems: Of any benchmark; those without an oracle stay as they are.
        box: Where the references run. It must show the libraries that they need.

    Raises:
        CodealignError: A reference failed, or an input or answer cannot cross; task and input are named.
        SandboxError: The engine failed.
    """
    asked = [(problem, problem.oracle) for problem in problems if problem.oracle is not None]
    if not asked:
        return list(problems)
    first: dict[str, tuple[Problem, Oracle]] = {}
    for problem, oracle in asked:
        first.setdefault(_key(problem, oracle), (problem, oracle))
    found = box.answers(_job(problem, oracle) for problem, oracle in first.values())
    answers = dict(zip(first, found, strict=True))
    return [
        problem
        if problem.oracle is None
        else _tested(problem, problem.oracle, answers[_key(problem, problem.oracle)])
        for problem in problems
    ]


def _key(problem: Problem, oracle: Oracle) -> str:
    """Equal for equal references and inputs; `repr` tells 1, 1.0 and True apart."""
    content = repr((oracle.program, problem.entry_point, problem.limits, oracle.inputs))
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _job(problem: Problem, oracle: Oracle) -> CallJob:
    limits = replace(
        problem.limits or Limits(), cpu_seconds=_REFERENCE_SECONDS, wall_seconds=_WALL * _REFERENCE_SECONDS
    )
    job = CallJob(oracle.program, problem.entry_point, oracle.inputs, limits)
    try:
        job.program()
    except ValueError as error:
        raise CodealignError(
            f"task {problem.task_id!r}: an input cannot cross into the box: {error}"
        ) from None
    return job


def _tested(problem: Problem, oracle: Oracle, answers: Sequence[Answer]) -> Problem:
    tests = [_test(problem, oracle, place, answer) for place, answer in enumerate(answers)]
    longest = TIMES_REFERENCE * sum(answer.cpu_seconds for answer in answers)
    limits = problem.limits or Limits()
    if longest > limits.cpu_seconds:
        wall = max(limits.wall_seconds, _WALL * longest)
        limits = replace(limits, cpu_seconds=longest, wall_seconds=wall)
    return replace(problem, tests=problem.tests + tuple(tests), oracle=None, limits=limits)


def _test(problem: Problem, oracle: Oracle, place: int, answer: Answer) -> Test:
    arguments = oracle.inputs[place]
    where = f"task {problem.task_id!r}, input {place}, {_short(arguments)}"
    if not answer.returned:
        raise CodealignError(
            f"{where}: the reference itself fails: {answer.verdict.value}"
            f"{' (' + answer.cause + ')' if answer.cause else ''}; leave the task out, or mend its data"
        )
    try:
        if oracle.judge is not None:
            return oracle.judge(arguments, answer.value)
        return CallTest(arguments, answer.value, oracle.tolerance)
    except ValueError as error:
        raise CodealignError(f"{where}: no test can be made of it: {error}") from None


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
