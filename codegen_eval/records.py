"""The values that travel along the chain: problems, what may be seen of them, and samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox import CallTest, CodeTest


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that sampling, execution, ranking and pair building ever see of a problem."""

    task_id: str
    prompt: str
    entry_point: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem with its hidden tests.

    A program is `prompt + completion`; `canonical_solution` is such a completion. `sizes[level]` holds
    argument tuples for timing, from small to large; empty where a benchmark has none. `tests` and `sizes`
    are for evaluation alone.
    """

    task_id: str
    prompt: str
    entry_point: str
    tests: tuple[CallTest | CodeTest, ...]
    canonical_solution: str
    sizes: tuple[tuple[tuple[Any, ...], ...], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def public(self) -> Prompt:
        """The part of the problem that a model and the pair data may see."""
        return Prompt(self.task_id, self.prompt, self.entry_point)


@dataclass(frozen=True, slots=True)
class Sample:
    """A model-written answer, number `sample` of its task: a completion of its prompt or a solution."""

    task_id: str
    completion: str | None
    solution: str | None
    sample: int
    meta: Mapping[str, Any] = field(default_factory=dict)

    def program(self, prompt: str) -> str:
        """The source that is run: the solution as it stands, or the prompt followed by the completion.

        Raises:
            ValueError: If the sample has neither.
        """
        if self.solution is not None:
            return self.solution
        if self.completion is None:
            raise ValueError(
                f"sample {self.sample} of task {self.task_id!r} has neither completion nor solution"
            )
        return prompt + self.completion
