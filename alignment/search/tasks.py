"""What is searched for: prompts, how answers are cut into steps, and who says whether an answer is right.

Three kinds: code (a benchmark's problems, outcomes by their tests in the sandbox), mathematics (questions
with a final number, as in GSM8K's files), and the embedded running sum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from alignment.search.duplicates import Key, by_program, by_text, by_tokens
from alignment.search.evaluators import OutcomeByTests, Runner, Verify
from alignment.search.steps import StepSplitter, split_lines, split_statements
from codegen_eval.config import Config
from codegen_eval.errors import CodealignError

Kind = Literal["code", "math", "running-sum"]
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?")
# Where a solution says its final answer; the last of them counts.
_FINAL = re.compile(r"####|answer is", re.IGNORECASE)


class TaskOptions(Config):
    """Prompts and their verifier."""

    kind: Kind = "code"
    """Kind of task."""
    benchmark: str = "minipy"
    """Of code: a benchmark whose training problems are searched."""
    dataset: Path | None = None
    """Of code: the benchmark's data, where it does not ship with us. Of math: a JSON-lines file with
    `question` and `answer`, whose last number behind `####` is right."""
    split: str | None = "train"
    """Of code: the benchmark's split."""
    partial: bool = False
    """Of code: outcomes are 2 x (share of passed tests) - 1; otherwise 1 or -1."""
    template: str = "Question: {question}\\nAnswer: "
    """Of math: the prompt of a question."""
    questions: int = Field(256, ge=1)
    """Of the running sum: how many questions there are."""
    digits: int = Field(9, ge=2)
    """Of the running sum: digits of a question."""

    @model_validator(mode="after")
    def _fits(self) -> TaskOptions:
        """Refuses options that the kind would not read."""
        reads = {
            "code": {"benchmark", "dataset", "split", "partial"},
            "math": {"dataset", "template"},
            "running-sum": {"questions", "digits"},
        }[self.kind]
        for name, field in TaskOptions.model_fields.items():
            if name not in {"kind", *reads} and getattr(self, name) != field.default:
                raise ValueError(f"task.{name} does nothing for the kind {self.kind!r}: leave it out")
        if self.kind == "math" and self.dataset is None:
            raise ValueError("the kind 'math' needs task.dataset, a file of questions and answers")
        if "{question}" not in self.template:
            raise ValueError("task.template needs the field {question}")
        return self


@dataclass(frozen=True, slots=True)
class TaskSet:
    """Tasks ready for a search.

    Attributes:
        names: A name each.
        texts: A prompt each.
        splitter: Where steps end.
        trigger: See `StepSampling.trigger`.
        stop: Texts that end an answer.
        key: What makes siblings equal.
        verifier: For some tasks by number, the verifier of answers to them in this order.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    splitter: StepSplitter
    trigger: str
    stop: tuple[str, ...]
    key: Key
    verifier: Callable[[Sequence[int]], Verify]


def load_tasks(options: TaskOptions, box: Callable[[], Runner], *, seed: int) -> TaskSet:
    """The tasks that the options ask for.

    Args:
        options: See `TaskOptions`.
        box: Gives the sandbox, when the first program is to be run.
        seed: Of the running sum's questions.

    Raises:
        CodealignError: For data that are missing or broken.
    """
    if options.kind == "code":
        return _code(options, box)
    return _math(options) if options.kind == "math" else running_sums(options.questions, options.digits, seed)


def _code(options: TaskOptions, box: Callable[[], Runner]) -> TaskSet:
    from codegen_eval.benchmarks.base import load

    problems = load(options.benchmark, options.dataset, options.split)
    for problem in problems:
        fits = problem.continues and problem.language == "python" and problem.tests
        if not fits or problem.oracle is not None:
            raise CodealignError(
                f"task {problem.task_id!r}: step search needs problems whose answers continue the prompt in "
                "Python and that have tests with known answers; choose another benchmark"
            )
    stops = {problem.stop for problem in problems}
    if len(stops) > 1:
        raise CodealignError(f"benchmark {options.benchmark!r}: its problems end at different stop texts")

    def verifier(numbers: Sequence[int]) -> Verify:
        return OutcomeByTests([problems[i] for i in numbers], box(), partial=options.partial)

    return TaskSet(
        tuple(problem.task_id for problem in problems),
        tuple(problem.prompt for problem in problems),
        split_statements,
        "\n",
        next(iter(stops)),
        by_program,
        verifier,
    )


def _math(options: TaskOptions) -> TaskSet:
    from codegen_eval.jsonl import read_jsonl

    assert options.dataset is not None
    rows = list(read_jsonl(options.dataset))
    right: list[Decimal] = []
    for number, row in enumerate(rows):
        for key in ("question", "answer"):
            if not isinstance(row.get(key), str):
                raise CodealignError(f"{options.dataset}:{number + 1}: {key!r} must be a text")
        value = final_number(row["answer"])
        if value is None:
            raise CodealignError(f"{options.dataset}:{number + 1}: the answer holds no number")
        right.append(value)
    if not rows:
        raise CodealignError(f"{options.dataset} holds no question")
    before, _, after = options.template.partition("{question}")

    def verifier(numbers: Sequence[int]) -> Verify:
        wanted = [right[i] for i in numbers]
        return lambda answers: [1.0 if final_number(a) == wanted[t] else -1.0 for t, a in answers]

    return TaskSet(
        tuple(f"{options.dataset.stem}/{i}" for i in range(len(rows))),
        tuple(before + row["question"] + after for row in rows),
        split_lines,
        "\n",
        (),
        by_text,
        verifier,
    )


def final_number(text: str) -> Decimal | None:
    """The number that a solution ends with: the first behind the last `####` or "answer is", else the last.

    Thousands separators and a dollar sign do not count; None without a number.
    """
    marks = list(_FINAL.finditer(text))
    found = _NUMBER.findall(text[marks[-1].end() :] if marks else text)
    if not found:
        return None
    try:
        return Decimal((found[0] if marks else found[-1]).replace(",", "").replace("$", ""))
    except InvalidOperation:
        return None


def running_sums(count: int, digits: int, seed: int) -> TaskSet:
    """Questions of the running sum, drawn by the seed."""
    from codegen_eval.tasks.running_sum import is_right, question_text, questions, split_totals

    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    texts = tuple(question_text(row) for row in questions(rng, count, digits))

    def verifier(numbers: Sequence[int]) -> Verify:
        asked = [texts[i] for i in numbers]
        return lambda answers: [1.0 if is_right(asked[t], a) else -1.0 for t, a in answers]

    names = tuple(f"running-sum/{i}" for i in range(count))
    return TaskSet(names, texts, split_totals, "", (), by_tokens, verifier)
