"""From samples to pass matrices: which programs and tests meet, and the rows of `matrices.jsonl`.

Sees prompts and samples only; the hidden tests of a benchmark have no way in. Programs that do not compile
stay: all their cells fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from codegen_eval.errors import CodealignError
from codegen_eval.extraction import assertions, docstring_examples, program, to_test
from codegen_eval.records import Prompt
from sandbox import Limits, MatrixJob, PassMatrix

Source = Literal["own", "examples"]
SOURCES: tuple[Source, ...] = ("own", "examples")
# How one test's source is written in matrices.jsonl.
OWN, EXAMPLE = "own", "example"


class MatrixRunner(Protocol):
    """What execution needs of a sandbox."""

    def pass_matrices(self, jobs: Iterable[MatrixJob]) -> Iterator[PassMatrix]:
        """Matrices of jobs, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """Programs and tests of one problem, before they are run.

    Attributes:
        prompt: The problem as the model saw it.
        programs: Full sources, one a sample, duplicates included.
        tests: (assertion, source), duplicates included.
        counts: What became of the completions' programs (`program_*`) and assertions (`test_*`).
    """

    prompt: Prompt
    programs: tuple[str, ...]
    tests: tuple[tuple[str, str], ...]
    counts: Mapping[str, int]

    def job(self, limits: Limits | None = None) -> MatrixJob:
        """What the sandbox is asked to run."""
        entry_point = self.prompt.entry_point
        return MatrixJob(
            codes=list(self.programs),
            tests=[to_test(text, entry_point) for text, _ in self.tests],
            entry_point=entry_point,
            limits=limits,
            id=self.prompt.task_id,
        )


def collect(
    prompt: Prompt,
    programs: Sequence[str],
    tests: Sequence[str],
    sources: Sequence[Source],
) -> Task:
    """Cuts a problem's completions into programs and assertions.

    Args:
        prompt: The problem.
        programs: Program completions.
        tests: Test completions; read only if `sources` holds `own`.
        sources: `own` for the model's tests, `examples` for those that the prompt's docstring shows.
    """
    cuts: Counter[str] = Counter()
    drops: Counter[str] = Counter()
    codes = tuple(program(prompt.prompt, text, prompt.entry_point, reasons=cuts) for text in programs)
    found: list[tuple[str, str]] = []
    if "own" in sources:
        for text in tests:
            found += [(a, OWN) for a in assertions(text, prompt.entry_point, reasons=drops)]
    if "examples" in sources:
        found += [(a, EXAMPLE) for a in docstring_examples(prompt.prompt, prompt.entry_point)]
    counts = {f"program_{reason}": count for reason, count in cuts.items()}
    counts |= {f"test_{reason}": count for reason, count in drops.items()}
    counts["test_example"] = sum(source == EXAMPLE for _, source in found)
    return Task(prompt, codes, tuple(found), counts)


def matrix_row(task: Task, matrix: PassMatrix) -> dict[str, Any]:
    """One row of `matrices.jsonl`: distinct programs and tests in the order of the matrix.

    A test that the model wrote and the docstring shows as well counts as the model's own.
    """
    codes: dict[int, str] = {}
    for text, row in zip(task.programs, matrix.code_index, strict=True):
        codes.setdefault(int(row), text)
    tests: dict[int, dict[str, str]] = {}
    for (text, source), column in zip(task.tests, matrix.test_index, strict=True):
        tests.setdefault(int(column), {"text": text, "source": source})
    return {
        "task_id": task.prompt.task_id,
        "entry_point": task.prompt.entry_point,
        "codes": [codes[i] for i in range(len(codes))],
        "tests": [tests[i] for i in range(len(tests))],
        "matrix": matrix.to_json(),
        "counts": dict(task.counts),
    }


def build_rows(
    prompts: Iterable[Prompt],
    programs: Mapping[str, Sequence[str]],
    tests: Mapping[str, Sequence[str]],
    runner: MatrixRunner,
    *,
    sources: Sequence[Source] = SOURCES,
    limits: Limits | None = None,
) -> Iterator[dict[str, Any]]:
    """Runs every problem's programs on its tests and yields the rows of `matrices.jsonl`, in the order of the
    prompts.

    Args:
        prompts: The problems.
        programs: Program completions by task id.
        tests: Test completions by task id.
        runner: A sandbox.
        sources: Which tests to use.
        limits: Limits of one cell; the sandbox's own when absent.

    Raises:
        CodealignError: If no source of tests is named.
    """
    if not sources:
        raise CodealignError("no source of tests: name at least one of own, examples")
    tasks = (collect(p, programs.get(p.task_id, ()), tests.get(p.task_id, ()), sources) for p in prompts)
    # The sandbox reads jobs ahead of the matrices it returns: their tasks wait here.
    waiting: list[Task] = []

    def jobs() -> Iterator[MatrixJob]:
        for task in tasks:
            waiting.append(task)
            yield task.job(limits)

    for matrix in runner.pass_matrices(jobs()):
        yield matrix_row(waiting.pop(0), matrix)
