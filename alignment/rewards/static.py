"""Cheap checks of an answer before anything is run, each a reward of its own with a weight of its own.

1 where the check holds, else 0. As the composition of syntax, compiling and structure in refactoring by
reinforcement learning (arXiv 2412.18035; its weights could not be read and are not claimed). They pay for
form, not for sense: keep their weights small beside that of execution (docs/rewards.md).
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignment.rewards.protocol import Rewards
from alignment.rewards.registry import REWARDS
from alignment.rewards.tasks import Problems, program_of
from codegen_eval.errors import CodealignError, unknown
from codegen_eval.extraction import parse_statements
from codegen_eval.records import Problem

STYLES = ("fenced", "program", "continuation", "tagged")


class StaticCheck(ABC):
    """Finds each completion's program and looks at it.

    Args:
        benchmark: As for `CodeReward`.
        split: Likewise.
        dataset: Likewise.
        extraction: How the program is found (see tasks.py).
        problems: Problems of one's own, instead of a benchmark.
    """

    bounds = (0.0, 1.0)
    __name__ = "static"

    def __init__(
        self,
        *,
        benchmark: str | None = None,
        split: str | None = None,
        dataset: str | Path | None = None,
        extraction: str = "auto",
        problems: Sequence[Problem] | None = None,
    ) -> None:
        self._problems = Problems(benchmark, split, dataset, problems)
        self._extraction = extraction

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> Rewards:
        """1 or 0 a completion.

        Raises:
            CodealignError: As `Problems.of`, or for a program that is not Python.
        """
        problems = self._problems.of(prompts, columns)
        return [float(self.holds(p, c)) for p, c in zip(problems, completions, strict=True)]

    @abstractmethod
    def holds(self, problem: Problem, completion: Any) -> bool:
        """Whether the check holds."""

    def _statements(self, problem: Problem, completion: Any) -> list[ast.stmt]:
        """The program's statements; none where there is no program or it is not Python."""
        if problem.language != "python":
            raise CodealignError(
                f"reward {self.__name__!r} reads Python; task {problem.task_id!r} is in {problem.language}"
            )
        source = program_of(problem, completion, self._extraction).solution
        return parse_statements(source) or []


@REWARDS.register("parses")
class Parses(StaticCheck):
    """Whether the program is Python that parses."""

    __name__ = "parses"

    def holds(self, problem: Problem, completion: Any) -> bool:
        """Whether there is a program and it parses."""
        return bool(self._statements(problem, completion))


@REWARDS.register("entry_point")
class HasEntryPoint(StaticCheck):
    """Whether the program defines what the tests call, at its top level and with a body of its own."""

    __name__ = "entry_point"

    def holds(self, problem: Problem, completion: Any) -> bool:
        """Whether `f`, or class and method of `Class.method`, is defined and does something."""
        if not problem.entry_point:
            raise CodealignError(
                f"task {problem.task_id!r} has no entry point; leave the part entry_point out"
            )
        body = self._statements(problem, completion)
        for part in problem.entry_point.replace("()", "").split("."):
            named = [n for n in body if isinstance(n, _DEFINITIONS) and n.name == part]
            if not named:
                return False
            body = named[-1].body
        return not all(_does_nothing(statement) for statement in body)


@REWARDS.register("format")
class Format(StaticCheck):
    """Whether the answer has the asked form.

    Args:
        style: `fenced` (a fenced block that is closed), `program` (nothing but the program), `continuation`
            (the text goes on where the prompt ends), `tagged`.
        benchmark: As for `CodeReward`.
        split: Likewise.
        dataset: Likewise.
        problems: Problems of one's own, instead of a benchmark.

    Raises:
        CodealignError: For an unknown style.
    """

    __name__ = "format"

    def __init__(
        self,
        *,
        style: str,
        benchmark: str | None = None,
        split: str | None = None,
        dataset: str | Path | None = None,
        problems: Sequence[Problem] | None = None,
    ) -> None:
        super().__init__(benchmark=benchmark, split=split, dataset=dataset, problems=problems)
        if style not in STYLES:
            raise unknown("style of an answer", style, STYLES)
        self._style = style

    def holds(self, problem: Problem, completion: Any) -> bool:
        """Whether the program was found where the style has it (docs/extraction.md lists the places)."""
        found = program_of(problem, completion, "auto")
        return bool(found.solution) and found.reason == self._style and "unparsable" not in found.notes


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _does_nothing(statement: ast.stmt) -> bool:
    """`pass`, a docstring or `...`."""
    constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return constant or isinstance(statement, ast.Pass)
