"""Which problem a completion answers, and the tests that it is paid by.

A problem comes from a benchmark, by the column `task_id`, or from the columns themselves: the prompt, and
`entry_point`. Which tests pay is a named pool: `shown` (the examples of the prompt's docstring), `hidden`
(all of the benchmark's own), a group of these that the benchmark names (`base`, `plus`), or `column:NAME`
(assertions in a column of the data set). What a model is shown and what it is paid by can be kept apart.
"""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment.rewards.protocol import column, text_of
from codegen_eval.benchmarks.base import load
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.extraction import Extracted, docstring_examples, extract, parse_statements, to_test
from codegen_eval.extraction.answers import Rule
from codegen_eval.extraction.assertion_lines import literal
from codegen_eval.records import Problem
from sandbox import CallTest, CodeTest, IOTest
from sandbox.program import Test

SHOWN, HIDDEN, COLUMN = "shown", "hidden", "column:"
EXTRACTIONS = ("auto", "first", "last", "longest", "benchmark", "off")
_LISTED = 5


class Problems:
    """Problems of completions.

    Args:
        benchmark: A registered benchmark; None reads the data set's columns instead.
        split: Of the benchmark; give the one that is trained on.
        dataset: Its data, where it does not ship with us.
        problems: Instead of a benchmark: the problems themselves, by task id or not.

    Raises:
        CodealignError: For an unknown benchmark or split, or data without one.
    """

    def __init__(
        self,
        benchmark: str | None = None,
        split: str | None = None,
        dataset: str | Path | None = None,
        problems: Sequence[Problem] | None = None,
    ) -> None:
        if benchmark is None and problems is None and (split is not None or dataset is not None):
            raise CodealignError("split and dataset belong to a benchmark: name it under the key benchmark")
        if benchmark is not None and problems is not None:
            raise CodealignError("problems are given and a benchmark is named: give one of them")
        if benchmark is not None:
            problems = loaded(benchmark, split, None if dataset is None else str(dataset))
        self.by_id: Mapping[str, Problem] | None = None
        if problems is not None:
            self.by_id = {problem.task_id: problem for problem in problems}

    def of(self, prompts: Sequence[Any], columns: Mapping[str, Any]) -> list[Problem]:
        """The problem of each completion.

        Args:
            prompts: Texts or messages, one a completion.
            columns: The data set's other columns.

        Raises:
            CodealignError: For a column that is missing, or a task id that the benchmark does not have.
        """
        given, size = dict(columns), len(prompts)
        if self.by_id is not None:
            ids = column(given, "task_id", size, "by which the benchmark's problems are found")
            for task_id in ids:
                if task_id not in self.by_id:
                    raise unknown("task id", str(task_id), self.by_id)
            return [self.by_id[task_id] for task_id in ids]
        names = column(given, "entry_point", size, "the function to call (or name a benchmark)")
        ids = given.get("task_id") or [""] * size
        return [
            Problem(str(task_id), text_of(prompt), str(name), (), "")
            for task_id, prompt, name in zip(ids, prompts, names, strict=True)
        ]


@functools.cache
def loaded(benchmark: str, split: str | None, dataset: str | None) -> tuple[Problem, ...]:
    """A benchmark's problems, read once a process."""
    return tuple(load(benchmark, None if dataset is None else Path(dataset), split))


def program_of(problem: Problem, completion: Any, rule: str) -> Extracted:
    """The program in a completion, as the sandbox is to run it; its solution is empty where there is none.

    Args:
        problem: What was asked.
        completion: Text or messages.
        rule: How it is found: `codegen_eval.extraction`'s rules, `benchmark` for the benchmark's own, or
            `off`: the completion as it stands, cut at the problem's stop texts, as `codealign eval` has it.

    Raises:
        CodealignError: For an unknown rule, or a completion that is no text.
    """
    if rule not in EXTRACTIONS:
        raise unknown("extraction rule", rule, EXTRACTIONS)
    text = text_of(completion)
    if rule == "off":
        return Extracted(problem.source(text) if text.strip() else "", "off")
    if rule == "benchmark":
        rule = str(problem.meta.get("extraction", "auto"))
    known: Rule = rule  # type: ignore[assignment]
    found = extract(
        text,
        prompt=problem.prompt if problem.continues else "",
        entry_point=problem.entry_point,
        rule=known,
        language=problem.language,
    )
    solution = problem.source(None, found.solution) if found.solution.strip() else ""
    return Extracted(solution, found.reason, found.notes)


def check_pool(pool: str) -> None:
    """Refuses what can be no pool of tests.

    Raises:
        CodealignError: For an empty name, or `column:` without one.
    """
    if not isinstance(pool, str) or not pool or pool == COLUMN:
        raise CodealignError(
            f"tests: {pool!r} is no pool; give shown, hidden, a group of the benchmark's, or column:NAME"
        )


def pool_tests(problem: Problem, pool: str, asserted: Any = None) -> tuple[Test, ...]:
    """The tests of one pool; for an oracle's tests its problem must have been answered before.

    Args:
        problem: The problem.
        pool: See above.
        asserted: The row's value in the column, for `column:NAME`: a list of assertions.

    Raises:
        CodealignError: For a pool that the problem does not have, or a column without assertions.
    """
    if pool == SHOWN:
        return shown_tests(problem)
    if pool == HIDDEN:
        return problem.tests
    if pool.startswith(COLUMN):
        return _asserted(problem, pool, asserted)
    groups: Mapping[str, tuple[int, int]] = problem.meta.get("groups", {})
    if pool not in groups:
        raise unknown(f"pool of tests of task {problem.task_id!r}", pool, [SHOWN, HIDDEN, *groups])
    first, end = groups[pool]
    return problem.tests[first:end]


def shown_tests(problem: Problem) -> tuple[Test, ...]:
    """The examples that the prompt's docstring shows."""
    found = docstring_examples(problem.prompt, problem.entry_point)
    return tuple(to_test(text, problem.entry_point) for text in found)


def _asserted(problem: Problem, pool: str, asserted: Any) -> tuple[Test, ...]:
    texts = [asserted] if isinstance(asserted, str) else asserted
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise CodealignError(
            f"task {problem.task_id!r}: the tests of {pool!r} must be a list of assertions as text, got a "
            f"{type(asserted).__name__}"
        )
    return tuple(to_test(text, problem.entry_point) for text in texts)


def inputs_of(test: Test, entry_point: str) -> set[object]:
    """What a test feeds to a program: shared by tests of one input, whatever they expect of it.

    Of a test in source form these are the calls with literal arguments, of the entry point by its name or, as
    HumanEval writes it, of `candidate`; calls with computed arguments are not seen.
    """
    if isinstance(test, CallTest):
        return {test.wire()}
    if isinstance(test, IOTest):
        return {test.stdin.encode() if isinstance(test.stdin, str) else test.stdin}
    found: set[object] = set()
    for statement in parse_statements(test.source) or []:
        for node in ast.walk(statement):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords
            if called and node.func.id in (entry_point, "candidate"):  # type: ignore[attr-defined]
                with contextlib.suppress(ValueError):
                    arguments = tuple(literal(argument) for argument in node.args)  # type: ignore[attr-defined]
                    found.add(CallTest(arguments, None).wire())
    return found


def overlap(problem: Problem, paid: Sequence[Test], shown: Sequence[Test]) -> list[str]:
    """Tests of `paid` with an input that is shown as well, as text."""
    name = problem.entry_point
    seen = {key for test in shown for key in inputs_of(test, name)}
    return [_text(problem, test) for test in paid if inputs_of(test, name) & seen]


def check_disjoint(problems: Sequence[Problem], pool: str) -> None:
    """Refuses a pool of which the prompts show a test.

    Raises:
        CodealignError: With the number of problems, and the tests of the first few.
    """
    if pool == SHOWN:
        raise CodealignError(
            "disjoint: the rewarded tests are the shown ones; take another pool, or leave disjoint out"
        )
    found = {p.task_id: overlap(p, pool_tests(p, pool), shown_tests(p)) for p in problems}
    bad = {task_id: texts for task_id, texts in found.items() if texts}
    if bad:
        lines = [f"{task_id}: {'; '.join(texts[:_LISTED])}" for task_id, texts in list(bad.items())[:_LISTED]]
        raise CodealignError(
            f"{len(bad)} of {len(problems)} problems show tests that pool {pool!r} pays for:\n  "
            + "\n  ".join(lines)
            + "\nTake another pool, or leave these problems out"
        )


def _text(problem: Problem, test: Test) -> str:
    if isinstance(test, CallTest):
        text = f"{problem.entry_point}({', '.join(map(repr, test.args))}) == {test.expected!r}"
    elif isinstance(test, CodeTest):
        text = test.source
    else:
        text = f"input {test.stdin!r}"
    return text if len(text) <= 120 else text[:117] + "..."
