"""Programs through the sandbox, or past it."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_eval.records import Oracle, Problem
from codegen_eval.running import run
from codegen_eval.store import ResultStore
from sandbox import CallTest, Sandbox, Verdict

pytestmark = pytest.mark.sandbox
PROBLEM = Problem("t", "", "f", (CallTest((1,), 1), CallTest((2,), 2)), "")
ASKS = Problem("u", "", "f", (), "", oracle=Oracle("def f(x): return -x", ((3,), (4,))))
WORK = [
    (PROBLEM, "def f(x): return x"),
    (PROBLEM, "def f(x): return 1"),
    (ASKS, "def f(x): return 0 - x"),
    (ASKS, "def f(x): return -3"),
    (PROBLEM, "def f(x):\n    while x > 1: pass\n    return x"),
]
WANTED = ["passed", "wrong_answer", "passed", "wrong_answer", "timeout"]


def test_outcomes_come_in_order_and_name_the_failing_test() -> None:
    with Sandbox(2) as box:
        found = list(run(WORK, lambda: box))
    assert [outcome.verdict.value for outcome in found] == WANTED
    assert [outcome.failed for outcome in found] == [None, 1, None, 1, 1]


def test_a_second_run_executes_only_what_may_not_be_reused(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store, Sandbox(2) as box:
        first = list(run(WORK, lambda: box, store))
        again = run(WORK[:4], _never, store)
        # The last one is taken without coming back, as zip and next do.
        assert [next(again) for _ in range(4)] == first[:4]
        started: list[str] = []
        last = list(run(WORK, lambda: started.append("once") or box, store))  # type: ignore[func-returns-value]
        assert [outcome.verdict for outcome in last] == [outcome.verdict for outcome in first]
        assert started and last[4].verdict is Verdict.timeout


def test_what_was_run_before_a_stop_is_kept(tmp_path: Path) -> None:
    with ResultStore(tmp_path / "s") as store, Sandbox(1) as box:
        begun = run(WORK[:4], lambda: box, store)
        next(begun)
        begun.close()  # type: ignore[attr-defined]
        assert next(run(WORK[:1], _never, store)).verdict is Verdict.passed


def _never() -> Sandbox:
    raise AssertionError("nothing is to be executed")
