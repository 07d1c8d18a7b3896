"""The objective of a reward: what greedy completions are worth, by a benchmark's tests or any function.

Nothing here is differentiable. Greedy text changes only where a move tips a token, so two evaluations often
agree on most rows; `eps` must be large enough that some differ.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.divided import gathered
from alignment.health.monitor import phase
from alignment.rewards.execution import PRESETS, execution_reward
from alignment.zeroth_order.estimators import Values
from codegen_eval.errors import CodealignError, unknown

if TYPE_CHECKING:
    from codegen_eval.records import Problem
    from sandbox import Result, Sandbox

Reward = Callable[..., Sequence[float | None]]
_REMEMBERED = 20_000
_STATUS = {
    "passed": "passed",
    "wrong_answer": "failed_test",
    "syntax_error": "compile_error",
    "timeout": "timeout",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt, where its completions end, and what else the reward function is given of it."""

    prompt: str
    stop: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


class TestReward:
    """A reward function in TRL's form that runs completions on the hidden tests of a benchmark's problems.

    Args:
        problems: By task id, which the column `task_id` names; oracles are answered already.
        name: Of `rewards.execution.PRESETS`; `pass_rate` is the share of all tests, run to the last one.
        box: Where they run.
    """

    __test__ = False  # not a test case of pytest's

    def __init__(self, problems: Mapping[str, Problem], name: str, box: Callable[[], Sandbox]) -> None:
        self.problems = problems
        self.name = name
        self._box = box
        # Most programs come back: both evaluations of a step often write the same.
        self._known: dict[tuple[str, str], float | None] = {}

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], task_id: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """One reward a completion."""
        keys = list(zip(task_id, completions, strict=True))
        fresh = [key for key in dict.fromkeys(keys) if key not in self._known]
        if len(self._known) + len(fresh) > _REMEMBERED:
            self._known.clear()
            fresh = list(dict.fromkeys(keys))
        if fresh:
            programs = [self._program(*key) for key in fresh]
            results = self._box().run(programs, all_tests=self.name == "pass_rate")
            for key, program, result in zip(fresh, programs, results, strict=True):
                self._known[key] = self._worth(result, len(program.tests))
        return [self._known[key] for key in keys]

    def _program(self, task: str, completion: str) -> Any:
        problem = self.problems[task]
        return problem.program(problem.source(completion))

    def _worth(self, result: Result, tests: int) -> float | None:
        passed = sum(cell.verdict == "passed" for cell in result.cells)
        if self.name == "pass_rate":
            return passed / tests
        status = _STATUS.get(result.verdict.value, "runtime_error")
        return execution_reward(PRESETS[self.name], status, passed, tests)


class GreedyReward:
    """Minus the reward of greedy completions, one value a row.

    Args:
        model: In memory.
        tokenizer: Its tokenizer.
        rows: What to complete.
        reward: Gets `prompts`, `completions` and the rows' columns, as TRL's reward functions do.
        max_new_tokens: Where a completion ends at the latest.
    """

    def __init__(
        self, model: Any, tokenizer: Any, rows: Sequence[Row], reward: Reward, max_new_tokens: int
    ) -> None:
        from codegen_eval.generation.hf import HFGenerator

        self.rows = list(rows)
        self.reward = reward
        self._model = model.eval()
        self._generator = HFGenerator(model, tokenizer)
        self._length = max_new_tokens

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __call__(self, rows: Sequence[int]) -> Values:
        """Minus the rewards of these rows.

        Raises:
            CodealignError: If the reward function gives other than one finite number or None a completion.
        """
        from codegen_eval.generation.base import Request, Sampling

        chosen = [self.rows[i] for i in rows]
        texts: list[str] = [""] * len(chosen)
        # Processes write different numbers of tokens: divided weights are whole in each of them meanwhile.
        with phase("rollout"), gathered(self._model.parameters()):
            for stop in dict.fromkeys(row.stop for row in chosen):
                places = [i for i, row in enumerate(chosen) if row.stop == stop]
                asked = [Request(str(i), chosen[i].prompt, 1) for i in places]
                drawn = self._generator.generate(asked, Sampling(0.0, 1.0, self._length, stop))
                for i, completions in zip(places, drawn, strict=True):
                    texts[i] = completions[0]
        names = {name for row in chosen for name in row.columns}
        columns = {name: [row.columns.get(name) for row in chosen] for name in sorted(names)}
        with phase("reward"):
            values = self.reward(prompts=[row.prompt for row in chosen], completions=texts, **columns)
        return [None if value is None else -value for value in _checked(values, len(chosen))]


def _checked(values: Any, count: int) -> list[float | None]:
    found = list(values)
    if len(found) != count:
        raise CodealignError(f"the reward function gave {len(found)} values for {count} completions")
    for i, value in enumerate(found):
        if value is not None and (isinstance(value, str) or not math.isfinite(value)):
            raise CodealignError(
                f"the reward function gave {value!r} for completion {i}; it must give a finite number, or "
                "None for one that has no reward"
            )
    return [None if value is None else float(value) for value in found]


def function_of(name: str) -> Reward:
    """The reward function `MODULE:FUNCTION`.

    Raises:
        CodealignError: If there is none.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise unknown("reward", name, [*PRESETS, "MODULE:FUNCTION"])
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CodealignError(f"no reward function {name!r}: {error}") from None
    if inspect.isclass(found):
        found = found()
    if not callable(found):
        raise CodealignError(f"{name!r} is no function")
    return found  # type: ignore[no-any-return]


def benchmark_rows(name: str, split: str | None) -> tuple[list[Row], list[Problem]]:
    """The problems of a benchmark, `NAME` or `NAME:PATH`, as rows.

    Raises:
        CodealignError: For an unknown benchmark or split, or problems that no completion continues.
    """
    from codegen_eval.benchmarks.base import load
    from codegen_eval.commands.sample import PROGRAM_STOPS

    benchmark, _, path = name.partition(":")
    problems = load(benchmark, Path(path) if path else None, split)
    for problem in problems:
        if not problem.continues or (not problem.tests and problem.oracle is None):
            raise CodealignError(
                f"{name}: task {problem.task_id!r} is not a prompt that a program continues and tests judge; "
                "give rows of your own and a reward function"
            )
    rows = [
        Row(problem.prompt, problem.stop or PROGRAM_STOPS, {"task_id": problem.task_id})
        for problem in problems
    ]
    return rows, problems


def fitting(rows: Sequence[Row], tokenizer: Any, room: int | None) -> tuple[list[Row], int]:
    """Rows whose prompt has `room` tokens at most, and how many had more.

    Raises:
        CodealignError: If none is short enough.
    """
    kept = [row for row in rows if room is None or len(tokenizer.encode(row.prompt)) <= room]
    if not kept:
        raise CodealignError(
            f"all {len(rows)} prompts are longer than max_length minus max_completion_length ({room} tokens)"
        )
    return kept, len(rows) - len(kept)
