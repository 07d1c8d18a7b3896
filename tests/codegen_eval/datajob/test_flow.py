"""The two sides of the flow: they overlap, are bounded, and fail in order. No clock decides."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from codegen_eval.datajob import flow
from codegen_eval.datajob.flow import AHEAD, Meter, cleaned_rows, hygiene_of, run_parts
from codegen_eval.execution import Task, collect
from codegen_eval.ranking.hygiene import clean
from codegen_eval.ranking.rows import RankOptions, programs_taking_part, read_matrix_row
from codegen_eval.records import Prompt
from sandbox import SandboxError
from tests.codegen_eval.datajob.made_up import Executor
from tests.codegen_eval.made_up_runs import DOUBLE, PROGRAMS, TESTS

SECONDS = 20.0  # until a test that hangs gives up
PROMPT = Prompt("made/double", DOUBLE, "double")


def task() -> Task:
    texts = PROGRAMS["made/double"]
    return collect(PROMPT, texts, TESTS["made/double"], ("own", "examples"))


class Held(Executor):
    """Answers only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[Future[Any], Any]] = []
        self.came = threading.Semaphore(0)

    def submit_order(self, order: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, order))
        self.came.release()
        return future

    def answer(self) -> None:
        future, order = self.waiting.pop(0)
        future.set_result(next(self.pass_matrices([order.work])))


def numbered(tasks: Any, matrices: Any) -> list[dict[str, Any]]:
    return [{"codes": len(matrix.code_counts)} for matrix in matrices]


def test_the_model_writes_while_the_sandbox_is_busy_but_not_more_than_so_far_ahead() -> None:
    held, drawn = Held(), []
    done: list[int] = []

    def parts() -> Iterator[tuple[int, list[Task]]]:
        for number in range(6):
            drawn.append(number)
            yield number, [task()]

    def consume() -> None:
        done.extend(number for number, _ in run_parts(parts(), held, numbered, Meter()))

    consumer = threading.Thread(target=consume)
    consumer.start()
    for _ in range(AHEAD):
        assert held.came.acquire(timeout=SECONDS)
    # Nothing is answered, and yet the parts after the first are written: one that waits to be handed over.
    assert not held.came.acquire(timeout=0.3) and done == []
    assert drawn == list(range(AHEAD + 1))
    for answered in range(1, 7):
        held.answer()
        if answered + AHEAD <= 6:
            assert held.came.acquire(timeout=SECONDS)
    consumer.join(SECONDS)
    assert done == list(range(6)) and not consumer.is_alive()


def test_an_error_of_the_model_comes_after_all_that_it_wrote() -> None:
    def parts() -> Iterator[tuple[int, list[Task]]]:
        yield 3, [task()]
        yield 4, [task()]
        raise ValueError("the server is gone")

    done = []
    with pytest.raises(ValueError, match="the server is gone"):
        for number, _ in run_parts(parts(), Executor(), numbered, Meter()):
            done.append(number)
    assert done == [3, 4]


def test_an_error_of_the_sandbox_ends_the_flow_and_cancels_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow, "_POLL_SECONDS", 0.01)
    held = Held()
    begun: list[Future[Any]] = []

    def parts() -> Iterator[tuple[int, list[Task]]]:
        for number in range(100):
            yield number, [task()]

    def fail() -> None:
        for _ in range(AHEAD):
            held.came.acquire(timeout=SECONDS)
        begun.extend(future for future, _ in held.waiting)
        held.waiting[0][0].set_exception(SandboxError("the engine failed"))

    threading.Thread(target=fail).start()
    with pytest.raises(SandboxError, match="the engine failed"):
        list(run_parts(parts(), held, numbered, Meter()))
    assert all(future.cancelled() for future in begun[1:]) and len(held.waiting) <= AHEAD + 1
    assert not any(thread.name == "writer" for thread in threading.enumerate())


def test_executions_are_counted_and_hygiene_comes_back_as_it_was() -> None:
    meter = Meter()
    options = RankOptions("b4")
    one = task()
    matrix = next(Executor().pass_matrices([one.job()]))
    settings: dict[str, Any] = {"options": options, "limits": None, "meter": meter}
    (bare,) = cleaned_rows([one], [matrix], Executor(), hygiene="off", **settings)
    assert meter.cells == matrix.known.sum() and "hygiene" not in bare
    (row,) = cleaned_rows([one], [matrix], Executor(), hygiene="full", **settings)
    assert meter.cells == 2 * matrix.known.sum() + row["hygiene"]["counts"]["cells_run_again"]
    (row,) = cleaned_rows([one], [matrix], Executor(), hygiene="static", **settings)
    checked = read_matrix_row(json.loads(json.dumps(row)))
    left, direct = hygiene_of(row, checked), clean(checked, programs_taking_part(checked, options))
    assert left is not None and (left.tests, left.aside) == (direct.tests, direct.aside)
    assert left.test_counts.tolist() == direct.test_counts.tolist() and left.counts == direct.counts
    assert hygiene_of(bare, read_matrix_row(bare)) is None
    figures = meter.figures()
    assert figures["executions"] == meter.cells and figures["prompts"] == 3 and figures["rss_mb"] > 10
