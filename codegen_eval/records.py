"""The values that travel along the chain: problems, what may be seen of them, and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox import Limits, Program, Sandbox
    from sandbox.program import Test


@dataclass(frozen=True, slots=True)
class Prompt:
    """All that sampling, execution, ranking and pair building ever see of a problem; as in `Problem`."""

    task_id: str
    prompt: str
    entry_point: str
    chat: str = ""
    language: str = "python"
    continues: bool = True
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Oracle:
    """Inputs whose right answers are what a reference gives: its program is run in the sandbox to know them
    (`codegen_eval.oracles`).

    Attributes:
        program: The reference, a whole program; it defines the problem's entry point.
        inputs: Argument tuples, plain data.
        tolerance: How far numbers may be from the reference's, absolutely or relatively; 0 for `==`.
        judge: Makes the test of an input and its right answer, where comparing within `tolerance` is not it.
    """

    program: str
    inputs: tuple[tuple[Any, ...], ...]
    tolerance: float = 0.0
    judge: Callable[[tuple[Any, ...], Any], Test] | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """Inputs of growing size, on which programs are timed against a reference.

    Attributes:
        levels: `levels[l]` holds argument tuples, from small to large.
        hardness: Weight of each level in the score; one of weight 0 is there for correctness only.
        checker: Source that defines `__check(input, answer, output)`, where equality with the reference's
            answer is not what is asked for; empty for equality of value and type.
    """

    levels: tuple[tuple[tuple[Any, ...], ...], ...]
    hardness: tuple[float, ...]
    checker: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem with its hidden tests.

    Attributes:
        task_id: Unique within the benchmark.
        prompt: What a model without chat continues, or the text of the task.
        entry_point: The function to call, `Solution.method`, or empty for whole programs.
        tests: The hidden tests. For evaluation alone.
        canonical_solution: A right answer, given as a completion of the prompt where `continues`, else as a
            whole program; empty where the benchmark has none.
        sizes: `sizes[level]` holds argument tuples for timing, from small to large; empty where there are
            none. For evaluation alone.
        graded: Makes the graded inputs, in a sandbox where a program makes them; None where there are none.
        oracle: Further hidden inputs, answered by a reference.
        continues: A completion continues the prompt. Where not, the prompt is prose and a completion stands
            alone, as a solution does.
        stop: Texts at which a completion is cut before it is run.
        assemble: Makes the source that is run of a whole program, as by putting imports before it.
        language: Of the program, a name of `sandbox.languages`.
        limits: The benchmark's own, where it names some.
        chat: What a chat model is asked; the prompt where empty.
        meta: Whatever else the benchmark says, as difficulty or date.
    """

    task_id: str
    prompt: str
    entry_point: str
    tests: tuple[Test, ...]
    canonical_solution: str
    sizes: Sequence[tuple[tuple[Any, ...], ...]] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    graded: Callable[[Sandbox], Graded] | None = None
    oracle: Oracle | None = None
    continues: bool = True
    stop: tuple[str, ...] = ()
    assemble: Callable[[str], str] | None = None
    language: str = "python"
    limits: Limits | None = None
    chat: str = ""

    def public(self) -> Prompt:
        """The part of the problem that a model and the pair data may see."""
        about = (self.chat, self.language, self.continues, self.stop)
        return Prompt(self.task_id, self.prompt, self.entry_point, *about)

    def source(self, completion: str | None, solution: str | None = None) -> str:
        """The source that is run for an answer: a solution as it stands, else a completion, cut at the first
        stop text and put behind the prompt where it continues that.
        """
        whole = solution
        if whole is None:
            whole = cut_at_stop(completion or "", self.stop)
            if self.continues:
                whole = self.prompt + whole
        return whole if self.assemble is None else self.assemble(whole)

    def program(self, source: str) -> Program:
        """What the sandbox runs: a source on all hidden tests; a ValueError before an oracle has answered."""
        from sandbox import Program

        if self.oracle is not None:
            raise ValueError(
                f"task {self.task_id!r} has an oracle: codegen_eval.oracles.answered comes first"
            )
        return Program(source, self.entry_point, self.tests, self.task_id, self.limits, self.language)

    @property
    def reference(self) -> str:
        """The source of the canonical solution, never cut; empty where there is none."""
        if not self.canonical_solution:
            return ""
        return self.source(None, (self.prompt if self.continues else "") + self.canonical_solution)


@dataclass(frozen=True, slots=True)
class Sample:
    """A model-written answer, number `sample` of its task: a completion of its prompt or a solution."""

    task_id: str
    completion: str | None
    solution: str | None
    sample: int
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.completion is None and self.solution is None:
            raise ValueError(
                f"sample {self.sample} of task {self.task_id!r} has neither completion nor solution"
            )


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the earliest stop text; all of it where none occurs."""
    found = [position for position in (text.find(s) for s in stop) if position >= 0]
    return text[: min(found)] if found else text
