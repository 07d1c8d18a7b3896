"""The parts of an evaluation that run programs, each kept piece by piece in the run's directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from codegen_eval.efficiency.grading import gradable
from codegen_eval.efficiency.scores import Settings
from codegen_eval.errors import CodealignError
from codegen_eval.evaluation import Rows, Task, run_tests, time_right
from codegen_eval.progress import track
from codegen_eval.runs import RunDir, read_jsonl
from codegen_eval.scoring import Mode, result_rows, score_tasks
from codegen_eval.store import ResultStore
from sandbox import Limits, Sandbox

if TYPE_CHECKING:
    from codegen_eval.commands.eval import EvalConfig


class LazySandbox:
    """The sandbox, started when it is first needed: a resumed run whose programs have all run needs none."""

    def __init__(self, config: EvalConfig) -> None:
        self._config = config
        self._box: Sandbox | None = None

    def __enter__(self) -> LazySandbox:
        return self

    def __exit__(self, *error: object) -> None:
        if self._box is not None:
            self._box.close()

    def get(self) -> Sandbox:
        """The sandbox, started now if it was not before."""
        if self._box is None:
            self._box = Sandbox(
                self._config.workers,
                limits=_limits(self._config),
                require=self._config.isolation,
                libraries=self._config.libraries,
            )
        return self._box


def _limits(config: EvalConfig) -> Limits:
    """Limits of problems that name none."""
    usual = Limits()
    return Limits(
        config.cpu_seconds or usual.cpu_seconds,
        config.wall_seconds or usual.wall_seconds,
        config.memory_mb or usual.memory_mb,
    )


class Stages:
    """The parts of an evaluation that run programs; each piece of them survives a kill."""

    def __init__(
        self,
        config: EvalConfig,
        run_dir: RunDir,
        tasks: Sequence[Task],
        box: LazySandbox,
        store: ResultStore | None,
    ) -> None:
        self._config = config
        self._run_dir = run_dir
        self._tasks = tasks
        self._box = box
        self._store = store

    def judged(self) -> tuple[Rows, Rows | None]:
        """Rows of sample_results.jsonl, and of scores.jsonl if eff@k is asked for.

        Where graded inputs are a benchmark's only tests, the scores come first and decide who is right.
        """
        only = all(not (task.problem.tests or task.problem.oracle) for task in self._tasks)
        only = only and all(task.problem.graded for task in self._tasks)
        mode = self._config.eff
        if mode == "auto":
            mode = "robust" if only else "off"
        if only and mode != "off":
            scores = self._scores(mode, [[True] * len(task.samples) for task in self._tasks])
            rows = self._written("sample_results", lambda: result_rows(self._tasks, scores))
            return rows, scores
        rows = self._tests()
        return rows, None if mode == "off" else self._scores(mode, _marks(self._tasks, rows))

    def _tests(self) -> Rows:
        """Runs the hidden tests, one part a problem."""

        def found(pending: list[int]) -> Iterator[Rows]:
            return run_tests(
                [self._tasks[part] for part in pending],
                self._box.get,
                self._store,
                limits=_limits(self._config),
                level=self._config.isolation,
            )

        return self._built("sample_results", found, len(self._tasks), "testing problems")

    def _scores(self, mode: Mode, right: list[list[bool]]) -> Rows:
        """Efficiency scores, one part a problem."""
        chosen = [i for i, task in enumerate(self._tasks) if gradable(task.problem)]
        if not chosen:
            raise CodealignError(
                f"--eff {mode}: {self._config.benchmark} has no graded inputs with references to time against"
            )
        settings = Settings(self._config.alpha, self._config.repeats)

        def found(pending: list[int]) -> Iterator[Rows]:
            places = [chosen[part] for part in pending]
            return score_tasks(
                [self._tasks[i] for i in places], [right[i] for i in places], self._box.get(), mode, settings
            )

        return self._built("scores", found, len(chosen), "scoring problems")

    def slow(self, rows: Rows) -> Rows | None:
        """Which right programs are slow, one part a problem; None where no problem has graded inputs."""
        timed = [i for i, t in enumerate(self._tasks) if t.problem.sizes and t.problem.canonical_solution]
        if not timed:
            return None
        right = _marks(self._tasks, rows)

        def found(pending: list[int]) -> Iterator[Rows]:
            places = [timed[part] for part in pending]
            tasks, marks = [self._tasks[i] for i in places], [right[i] for i in places]
            return time_right(tasks, marks, self._box.get(), self._config.slow_ratio)

        return self._built("efficiency", found, len(timed), "timing problems")

    def _built(self, name: str, found: Callable[[list[int]], Iterator[Rows]], parts: int, says: str) -> Rows:
        def produce(pending: list[int]) -> Iterator[tuple[int, Rows]]:
            return zip(pending, track(found(pending), len(pending), says), strict=True)

        return list(read_jsonl(self._run_dir.build(name, parts, produce)))

    def _written(self, name: str, rows: Callable[[], Iterator[Rows]]) -> Rows:
        def produce(pending: list[int]) -> Iterator[tuple[int, Rows]]:
            every = list(rows())
            return ((part, every[part]) for part in pending)

        return list(read_jsonl(self._run_dir.build(name, len(self._tasks), produce)))


def _marks(tasks: Sequence[Task], rows: Rows) -> list[list[bool]]:
    """Whether each sample of each task passed."""
    passed = {(row["task_id"], row["sample"]): row["passed"] for row in rows}
    return [[passed[task.problem.task_id, sample.sample] for sample in task.samples] for task in tasks]
