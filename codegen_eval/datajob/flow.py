"""The model writes for the next prompts while the sandbox runs the programs of those before.

A thread draws text part by part and hands each part's matrices to the executor at once; what is handed over
and not yet finished is bounded (`AHEAD` parts), so that neither side can run away from the other and memory
does not grow with the job.
"""

from __future__ import annotations

import queue
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from codegen_eval.execution import Task, matrix_row
from codegen_eval.ranking.hygiene import Cleaned, clean
from codegen_eval.ranking.rechecks import MatrixRunner, recheck
from codegen_eval.ranking.rows import MatrixRow, RankOptions, programs_taking_part, read_matrix_row
from sandbox import Limits, PassMatrix
from sandbox.executors.orders import Order

AHEAD = 2  # parts that are handed over and not finished
_POLL_SECONDS = 0.2
_END_SECONDS = 30.0


class Runner(MatrixRunner, Protocol):
    """What the flow needs of an executor."""

    def submit_order(self, order: Order) -> Future[Any]:
        """Begin work; never blocks."""
        ...


@dataclass(slots=True)
class Meter:
    """What was done in this attempt, and who waited for whom, in seconds.

    Attributes:
        writer_waited: The model waited for the sandbox.
        sandbox_waited: Nothing was there to run: the sandbox waited for the model.
        cells: Executions: a program on a test, those of hygiene included.
        cells_spared: Executions that adaptive execution left out.
    """

    started: float = field(default_factory=time.monotonic)
    writer_waited: float = 0.0
    sandbox_waited: float = 0.0
    cells: int = 0
    cells_spared: int = 0
    prompts: int = 0

    def figures(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return {
            "seconds": round(seconds, 3),
            "prompts": self.prompts,
            "executions": self.cells,
            "executions_spared": self.cells_spared,
            "executions_per_second": round(self.cells / seconds, 2),
            "model_waits_share": round(self.writer_waited / seconds, 4),
            "sandbox_waits_share": round(self.sandbox_waited / seconds, 4),
            "rss_mb": _rss_mb(),
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    tasks: Sequence[Task]
    matrices: Sequence[Future[PassMatrix]]


Drawn = Iterator[tuple[int, Sequence[Task]]]
Finish = Callable[[Sequence[Task], Sequence[PassMatrix]], list[dict[str, Any]]]


class _Writer:
    """The thread that draws: parts in, parts with their matrices begun out."""

    def __init__(
        self, drawn: Drawn, runner: Runner | None, limits: Limits | None, meter: Meter, ahead: int
    ) -> None:
        self._drawn, self._runner, self._limits, self._meter = drawn, runner, limits, meter
        self._room = threading.Semaphore(ahead)
        self._begun: queue.SimpleQueue[_Part | BaseException | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="writer", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_Part]:
        """The parts as they come; an error of the writer comes after all that it began."""
        while True:
            begun = time.monotonic()
            found = self._begun.get()
            self._meter.sandbox_waited += time.monotonic() - begun
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found
            self._room.release()

    def _draw(self) -> None:
        try:
            for number, tasks in self._drawn:
                waited = time.monotonic()
                while not self._room.acquire(timeout=_POLL_SECONDS):
                    if self._stop.is_set():
                        break
                self._meter.writer_waited += time.monotonic() - waited
                if self._stop.is_set():
                    return
                self._begun.put(_Part(number, tasks, self._begin(tasks)))
            self._begun.put(None)
        except BaseException as error:  # the caller's thread raises it
            self._begun.put(error)

    def _begin(self, tasks: Sequence[Task]) -> list[Future[PassMatrix]]:
        if self._runner is None:
            return []
        return [self._runner.submit_order(Order(task.job(self._limits))) for task in tasks]

    def close(self) -> None:
        """Ends the thread after what it is drawing now, and the matrices that nobody waits for."""
        self._stop.set()
        self._thread.join(_END_SECONDS)
        while not self._begun.empty():
            part = self._begun.get()
            for future in part.matrices if isinstance(part, _Part) else ():
                future.cancel()


def run_parts(
    drawn: Drawn, runner: Runner | None, finish: Finish, meter: Meter, limits: Limits | None = None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yields `(part, rows)` in the order in which the parts are drawn.

    Args:
        drawn: Numbers of parts with their tasks; read in a thread of its own.
        runner: Where programs run; None = nothing is begun ahead, `finish` gets no matrices and runs
            programs itself.
        finish: Makes rows of a part's tasks and matrices.
        meter: Takes the counts.
        limits: Of each execution.

    Raises:
        SandboxError: A matrix could not be filled, after all retries of the executor.
    """
    writer = _Writer(drawn, runner, limits, meter, AHEAD)
    try:
        for part in writer:
            yield part.number, finish(part.tasks, [future.result() for future in part.matrices])
    finally:
        writer.close()


def cleaned_rows(
    tasks: Sequence[Task],
    matrices: Sequence[PassMatrix],
    runner: MatrixRunner,
    *,
    hygiene: str,
    options: RankOptions,
    limits: Limits | None,
    meter: Meter,
) -> list[dict[str, Any]]:
    """Rows of `matrices.jsonl`, with what hygiene left of each under `hygiene` (`off`, `static`, `full`)."""
    raw = [matrix_row(task, matrix) for task, matrix in zip(tasks, matrices, strict=True)]
    meter.prompts += len(tasks)
    meter.cells += sum(int(matrix.known.sum()) for matrix in matrices)
    if hygiene == "off":
        return raw
    rows = [read_matrix_row(row) for row in raw]
    taking_part = [programs_taking_part(row, options) for row in rows]
    found = [clean(row, codes) for row, codes in zip(rows, taking_part, strict=True)]
    if hygiene == "full":
        recheck(rows, found, taking_part, runner, limits=limits, seed=options.seed)
        meter.cells += sum(left.counts["cells_run_again"] for left in found)
    return [{**row, "hygiene": _plain(left)} for row, left in zip(raw, found, strict=True)]


def _plain(left: Cleaned) -> dict[str, Any]:
    return {
        "tests": left.tests,
        "test_counts": [float(count) for count in left.test_counts],
        "aside": sorted(left.aside),
        "counts": dict(left.counts),
    }


def hygiene_of(raw: Mapping[str, Any], row: MatrixRow) -> Cleaned | None:
    """What hygiene left of a row, as `cleaned_rows` wrote it."""
    kept = raw.get("hygiene")
    if kept is None:
        return None
    counts = np.asarray(kept["test_counts"], dtype=np.float64).reshape(len(row.tests))
    return Cleaned(list(kept["tests"]), counts, set(kept["aside"]), Counter(kept["counts"]))


def _rss_mb() -> int:
    """Resident memory of this process now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * resource.getpagesize() >> 20
