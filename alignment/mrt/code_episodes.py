"""Episodes for code: drafts of a program, each mended with what the sandbox said of the one before.

An episode is a repair turn. The model writes a draft; the public tests (the examples of the docstring) are
run in the sandbox; what failed is shown as comments, and the prompt follows once more. Whoever stops after a
turn hands in the last draft, so that J behind a turn is the reward of that draft on the private tests, which
are never shown. A repair that breaks what was right has negative progress.

What a program printed or raised is hostile text: it is cut to one short line of printable characters, and
stands behind `# `.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from alignment.mrt.progress import FloatArray
from codegen_eval.errors import CodealignError
from codegen_eval.extraction.examples import docstring_examples
from codegen_eval.generation.base import Request, Sampling
from codegen_eval.records import Problem
from sandbox import CallTest, InfraError, Program, Result, Verdict

Generate = Callable[[Sequence[Request], Sampling], list[list[str]]]
Execute = Callable[[Sequence[Program]], Iterable[Result | InfraError]]

LONGEST = 120
"""Characters of a line of feedback."""
_SAID = {
    Verdict.wrong_answer: "wrong answer",
    Verdict.syntax_error: "does not parse",
    Verdict.timeout: "too slow",
    Verdict.memory_limit: "out of memory",
    Verdict.output_limit: "too much output",
    Verdict.violation: "not allowed",
}


@dataclass(frozen=True, slots=True)
class PublicTest:
    """An example that the prompt shows: as a call with its value, and as a test."""

    text: str
    test: CallTest


@dataclass(frozen=True, slots=True)
class Draft:
    """One turn.

    Attributes:
        prompt: What the model was given: the problem, and earlier drafts with what was said of them.
        completion: What it wrote.
        feedback: What the public tests said, one line a failed test at most; empty where they passed.
        passed: Whether all public tests passed; None where the sandbox broke.
        reward: 1.0 if the private tests pass, else 0.0; None where the sandbox broke.
    """

    prompt: str
    completion: str
    feedback: tuple[str, ...]
    passed: bool | None
    reward: float | None


@dataclass(frozen=True, slots=True)
class RepairTrace:
    """The drafts of one sample, one or more; it ends when the public tests pass or the turns are spent."""

    problem: Problem
    number: int
    drafts: tuple[Draft, ...]


def public_tests(problem: Problem) -> list[PublicTest]:
    """The examples of a problem's docstring that are calls with literals."""
    found = []
    for assertion in docstring_examples(problem.prompt, problem.entry_point):
        text = assertion.removeprefix("assert ")
        comparison = ast.parse(text, mode="eval").body
        if not isinstance(comparison, ast.Compare) or not isinstance(comparison.left, ast.Call):
            continue
        call = comparison.left
        try:
            args = tuple(ast.literal_eval(arg) for arg in call.args)
            kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
            expected = ast.literal_eval(comparison.comparators[0])
        except ValueError:
            continue
        found.append(PublicTest(text, CallTest(args, expected, kwargs=kwargs)))
    return found


def repair_prompt(problem: Problem, drafts: Sequence[Draft]) -> str:
    """The prompt of the next turn: all drafts, the feedback on each as comments, and the task once more."""
    parts = [problem.prompt]
    for draft in drafts:
        said = "".join(f"# {line}\n" for line in draft.feedback)
        parts.append(f"{draft.completion.rstrip()}\n\n{said}\n{problem.prompt}")
    return "".join(parts)


def feedback_line(test: str, result: Result) -> str:
    """What is shown of a failed public test: the test, what happened, the error's text where there is one."""
    said = _SAID.get(result.verdict, result.cause or str(result.verdict))
    message = result.message if result.verdict is Verdict.runtime_error else ""
    text = f"{test}: {said}{': ' + message if message and message != said else ''}"
    plain = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(plain.split())[:LONGEST]


def sample_repairs(
    problems: Sequence[Problem],
    generate: Generate,
    execute: Execute,
    sampling: Sampling,
    *,
    count: int,
    turns: int,
) -> list[RepairTrace]:
    """`count` traces of each problem, of up to `turns` drafts.

    Sample i of a problem's turn t depends on (seed, task, i, t) and the drafts before alone.

    Args:
        problems: With docstrings that show examples; one without gets no second draft.
        generate: Draws completions.
        execute: Runs programs, `LocalExecutor.run` say.
        sampling: Of the drafts.
        count: Traces of each problem.
        turns: Most drafts of a trace.

    Raises:
        CodealignError: For a count or turns below 1, or a problem whose completions do not continue a prompt.
    """
    if count < 1 or turns < 1:
        raise CodealignError(f"count {count} and turns {turns} must be 1 or more")
    for problem in problems:
        if not problem.continues or problem.language != "python":
            raise CodealignError(
                f"{problem.task_id!r} is no Python prompt that is continued: repair turns need one"
            )
    shown = {problem.task_id: public_tests(problem) for problem in problems}
    found = {(p.task_id, i): RepairTrace(p, i, ()) for p in problems for i in range(count)}
    open_ = list(found)
    for turn in range(turns):
        if not open_:
            break
        asked = [found[key] for key in open_]
        requests = [
            Request(f"{t.problem.task_id}/{t.number}/{turn}", repair_prompt(t.problem, t.drafts), 1)
            for t in asked
        ]
        texts = [of[0] for of in generate(requests, sampling)]
        drafts = _run(asked, [r.prompt for r in requests], texts, shown, execute)
        for key, draft in zip(open_, drafts, strict=True):
            found[key] = RepairTrace(found[key].problem, found[key].number, (*found[key].drafts, draft))
        # Nothing to say where the tests passed, none are shown, or the sandbox broke.
        open_ = [key for key in open_ if found[key].drafts[-1].feedback]
    return list(found.values())


def _run(
    traces: Sequence[RepairTrace],
    prompts: Sequence[str],
    texts: Sequence[str],
    shown: dict[str, list[PublicTest]],
    execute: Execute,
) -> Iterator[Draft]:
    """The drafts with what public and private tests say; every public test is a program of its own."""
    work: list[Program] = []
    for trace, text in zip(traces, texts, strict=True):
        problem, source = trace.problem, trace.problem.source(text)
        name = f"{problem.task_id}/{trace.number}"
        work.append(problem.program(source))
        tests = shown[problem.task_id]
        work += [
            Program(source, problem.entry_point, (t.test,), f"{name}/public/{i}", problem.limits)
            for i, t in enumerate(tests)
        ]
    results = iter(execute(work))
    for trace, prompt, text in zip(traces, prompts, texts, strict=True):
        tests = shown[trace.problem.task_id]
        private = next(results)
        public = list(islice(results, len(tests)))
        broken = any(isinstance(result, InfraError) for result in public)
        lines = tuple(
            dict.fromkeys(
                feedback_line(test.text, result)
                for test, result in zip(tests, public, strict=True)
                if isinstance(result, Result) and result.verdict is not Verdict.passed
            )
        )
        yield Draft(
            prompt,
            text,
            () if broken else lines,
            None if broken else not lines,
            None if isinstance(private, InfraError) else float(private.verdict is Verdict.passed),
        )


def repair_curve(trace: RepairTrace, first: Sequence[float | None], turns: int) -> FloatArray | None:
    """J after 0, 1, ..., `turns` turns, (turns + 1,): behind its last turn a trace keeps its draft.

    J of no turn at all is the mean reward of the problem's first drafts: whoever has to answer at once writes
    one. None where a reward is unknown.

    Args:
        trace: One sample.
        first: Rewards of the first drafts of all samples of its problem.
        turns: Length of the curve.
    """
    rewards = [draft.reward for draft in trace.drafts]
    known = [reward for reward in first if reward is not None]
    if any(reward is None for reward in rewards) or not known:
        return None
    values = [float(reward) for reward in rewards if reward is not None]
    filled = values + [values[-1]] * (turns - len(values))
    return np.array([float(np.mean(known)), *filled[:turns]])


def repair_pairs(traces: Sequence[RepairTrace]) -> list[dict[str, str]]:
    """Rows for fine-tuning on repair, from a model's own samples: a wrong draft, what was said, a right one.

    `prompt` is the repair prompt of a draft that failed its public tests, `completion` another sample of the
    same problem whose private tests pass. Each failed first draft gives one row; right drafts are dealt out
    in turn, so that none is imitated much more than another.
    """
    rows = []
    by_problem: dict[str, list[RepairTrace]] = {}
    for trace in traces:
        by_problem.setdefault(trace.problem.task_id, []).append(trace)
    for of in by_problem.values():
        right = list(dict.fromkeys(draft.completion for t in of for draft in t.drafts if draft.reward == 1))
        failed = [t for t in of if t.drafts[0].feedback and t.drafts[0].reward == 0]
        for i, trace in enumerate(failed if right else []):
            rows.append(
                {
                    "prompt": repair_prompt(trace.problem, trace.drafts[:1]),
                    "completion": right[i % len(right)],
                    "task_id": trace.problem.task_id,
                }
            )
    return rows
