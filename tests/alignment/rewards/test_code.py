"""Rewards by execution: hostile completions, a broken sandbox, equal programs, test pools, speed."""

from __future__ import annotations

import asyncio
import copy
import functools
import math
import os
import signal
from typing import Any

import pytest

from alignment.rewards.code import CodeReward
from alignment.rewards.execution import PRESETS
from alignment.rewards.outcomes import Outcome, figures
from alignment.rewards.pool import Pool
from codegen_eval.efficiency.grading import Yardstick, yardstick
from codegen_eval.errors import CodealignError
from sandbox import CellResult, Isolation, Limits, Result, Sandbox, SandboxError, Verdict
from tests.alignment.rewards.problems import DOUBLE, LAST, FakePool, timing

# Completion, status, tests passed of 4.
ANSWERS = [
    ("    return 2 * x\n", "passed", 4),
    ("```python\ndef double(x):\n    return x + x\n```", "passed", 4),
    ("    return abs(2 * x)\n", "failed_test", 3),
    ("    return x\n", "failed_test", 1),
    ("    assert x > 0\n    return 2 * x\n", "runtime_error", 2),
    ("    return (\n", "compile_error", 0),
    ("I cannot do that.", "no_code", 0),
    ("", "no_code", 0),
    ("\x00\ud800", "no_code", 0),
    ("    import os\n    os.write(3, b'\\xff' * 100)\n", "runtime_error", 0),  # a violation
    ("    import os\n    os._exit(0)\n", "runtime_error", 0),
    ("```python\ndef other(x):\n    return 2 * x\n```", "runtime_error", 0),
    ("    x = " + "(" * 3000 + ")" * 3000 + "\n", "compile_error", 0),
    # Equal to everything where somebody compares inside the program's process.
    (
        "    class Yes:\n        def __eq__(self, other):\n            return True\n    return Yes()\n",
        "failed_test",
        0,
    ),
]


def ask(reward: CodeReward, completions: list[str], problem: Any = DOUBLE, **columns: Any) -> list[Any]:
    size = len(completions)
    columns.setdefault("task_id", [problem.task_id] * size)
    return asyncio.run(reward([problem.prompt] * size, completions, **columns))


def paid(preset: str, status: str, passed: int) -> float:
    """The presets, written out a second time: CodeRL's table, the share of tests, 1 or 0."""
    if preset == "binary":
        return float(status == "passed")
    if preset == "pass_rate":
        return passed / 4 if status in ("passed", "failed_test", "runtime_error") else 0.0
    return {"passed": 1.0, "failed_test": -0.3, "runtime_error": -0.6}.get(status, -1.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_hostile_and_honest_completions_get_what_the_preset_says(preset: str, pool: Pool) -> None:
    reward = CodeReward(problems=[DOUBLE], tests="hidden", preset=preset, pool=pool)
    logged: dict[str, float] = {}
    columns: dict[str, list[Any]] = {}
    found = ask(
        reward,
        [text for text, _, _ in ANSWERS],
        log_metric=logged.__setitem__,
        log_extra=columns.__setitem__,
    )
    assert [outcome.status for outcome in reward.last] == [status for _, status, _ in ANSWERS]
    assert found == pytest.approx([paid(preset, status, passed) for _, status, passed in ANSWERS])
    if preset == "pass_rate":  # the others stop at the first failure
        assert [outcome.passed for outcome in reward.last] == [passed for _, _, passed in ANSWERS]
    assert reward.counts["violation"] == 1
    assert logged["execution/violation"] == pytest.approx(1 / len(ANSWERS))
    assert logged["execution/no_code"] == pytest.approx(3 / len(ANSWERS))
    assert columns["execution_status"] == [status for _, status, _ in ANSWERS]


def test_a_program_that_never_ends_is_a_timeout_and_worth_less_than_a_wrong_one() -> None:
    limited = CodeReward(problems=[DOUBLE], tests="base", executor_options={"workers": 1}, cpu_seconds=0.2)
    try:
        assert ask(limited, ["    while True: pass\n"]) == [-0.6]
        assert limited.last[0].status == "timeout"
    finally:
        limited.close()


def test_an_engine_killed_in_the_middle_costs_no_reward(pool: Pool) -> None:
    reward = CodeReward(problems=[DOUBLE], tests="hidden", preset="pass_rate", pool=pool)
    completions = [f"    return 2 * x + {k} * (x > 3)\n" for k in range(40)]

    async def killed() -> list[float | None]:
        prompts, ids = [DOUBLE.prompt] * 40, [DOUBLE.task_id] * 40
        asked = asyncio.ensure_future(reward(prompts, completions, task_id=ids))
        executor: Any = await asyncio.to_thread(pool.executor)
        while executor.stats().done < before + 3 and not asked.done():
            await asyncio.sleep(0.001)
        os.kill(executor._pump._sandbox._client.info["pid"], signal.SIGKILL)
        return await asked

    before = pool.executor().stats().done
    assert asyncio.run(killed()) == [1.0] + [0.75] * 39
    assert reward.counts["infra_error"] == 0


def test_a_pool_that_was_closed_is_opened_again() -> None:
    own = Pool("local", {"workers": 1})
    reward = CodeReward(problems=[DOUBLE], tests="base", pool=own)
    assert ask(reward, ["    return 2 * x\n"]) == [1.0]
    own.executor().close()
    assert ask(reward, ["    return x\n"]) == [-0.3]
    assert own.restarts == 1
    reward.close()


def result(verdict: Verdict, passed: int, total: int) -> Result:
    cells = [CellResult(Verdict.passed, "", 0.0)] * passed
    cells += [CellResult(verdict, "", 0.0)] * (total - passed)
    return Result("", verdict, "", "", tuple(cells), 0.0, 0.0, Isolation("full"), Limits())


def test_what_could_not_be_run_has_no_reward_and_is_counted() -> None:
    fake = FakePool({"good": result(Verdict.passed, 4, 4), "lost": None})
    reward = CodeReward(problems=[DOUBLE], tests="hidden", pool=fake)
    logged: dict[str, float] = {}
    texts = ["    good = 2 * x\n    return good\n", "    lost = x\n    return lost\n"]
    assert ask(reward, texts, log_metric=logged.__setitem__) == [1.0, None]
    assert reward.counts["infra_error"] == 1 and reward.counts["passed"] == 1
    assert logged["execution/infra_error"] == 0.5
    assert logged["execution/tests_passed"] == 1.0  # of what was run


def test_a_sandbox_that_runs_nothing_ends_the_training_with_the_rate() -> None:
    class Broken(Pool):
        async def _do(self, order: Any) -> Any:
            raise SandboxError("no engine")

    reward = CodeReward(problems=[DOUBLE], tests="hidden", pool=Broken(max_infra_rate=0.2))
    assert ask(reward, [f"    return {k}\n" for k in range(19)]) == [None] * 19
    with pytest.raises(SandboxError, match=r"20 of the last 20 programs could not be run.*no engine"):
        ask(reward, ["    return 19\n"])


def test_equal_programs_run_once_whatever_surrounds_them() -> None:
    fake = FakePool({"double": result(Verdict.passed, 1, 1)})
    reward = CodeReward(problems=[DOUBLE], pool=fake)
    fenced = "Sure:\n```python\ndef double(x):\n    return 2 * x\n```\nDone."
    again = "```python\ndef double(x):\n    return 2 * x\n```"
    assert ask(reward, [fenced, again, again]) == [1.0] * 3
    assert len(fake.ran) == 1


def test_problems_come_from_columns_where_no_benchmark_is_named(pool: Pool) -> None:
    reward = CodeReward(tests="column:asserts", pool=pool, preset="binary")
    asserts = [["assert double(4) == 8", "assert double(1) == 2"], "assert double(0) == 0"]
    answers = ["    return 2 * x\n", "    return 3 * x\n"]
    assert ask(reward, answers, entry_point=["double"] * 2, asserts=asserts) == [1.0, 1.0]
    asserts = [["assert double(4) == 8"]] * 2
    assert ask(reward, answers, entry_point=["double"] * 2, asserts=asserts) == [1.0, 0.0]
    with pytest.raises(CodealignError, match="no column 'entry_point'"):
        ask(reward, answers, asserts=asserts)
    with pytest.raises(CodealignError, match="no column 'asserts', whose tests pay"):
        ask(reward, answers, entry_point=["double"] * 2)
    with pytest.raises(CodealignError, match="must be a list of assertions"):
        ask(reward, answers, entry_point=["double"] * 2, asserts=[3, 4])


def test_messages_are_read_like_texts(pool: Pool) -> None:
    reward = CodeReward(problems=[DOUBLE], pool=pool, preset="binary")
    prompt = [{"role": "user", "content": DOUBLE.prompt}]
    answer = [{"role": "assistant", "content": "```python\ndef double(x):\n    return 2 * x\n```"}]
    assert asyncio.run(reward([prompt], [answer], task_id=[DOUBLE.task_id])) == [1.0]


def test_shown_tests_in_the_paid_pool_are_refused_and_listed() -> None:
    CodeReward(problems=[DOUBLE], tests="hidden", disjoint=True)
    with pytest.raises(CodealignError, match=r"1 of 2 problems show.*\n  t/last: last\(\[1, 2\]\) == 2"):
        CodeReward(problems=[DOUBLE, LAST], tests="hidden", disjoint=True)
    with pytest.raises(CodealignError, match="the rewarded tests are the shown ones"):
        CodeReward(problems=[DOUBLE], tests="shown", disjoint=True)
    fake = FakePool({"": result(Verdict.passed, 1, 1)})
    reward = CodeReward(tests="column:t", disjoint=True, pool=fake)
    columns = {"entry_point": ["double"], "t": [["assert double(2) == 4"]]}
    with pytest.raises(CodealignError, match=r"shows tests.*double\(2\) == 4"):
        ask(reward, ["    return 2 * x\n"], **columns)


def test_a_problem_without_tests_and_an_unknown_task_are_errors() -> None:
    fake = FakePool({"": result(Verdict.passed, 1, 1)})
    bare = CodeReward(tests="shown", pool=fake)
    with pytest.raises(CodealignError, match="no test in the pool 'shown'"):
        asyncio.run(bare(["def f(x):\n"], ["    return 1\n"], entry_point=["f"]))
    with pytest.raises(CodealignError, match=r"unknown task id 't/doubl'; did you mean 't/double'"):
        ask(CodeReward(problems=[DOUBLE], pool=fake), ["x"], task_id=["t/doubl"])
    with pytest.raises(CodealignError, match=r"unknown pool of tests.*did you mean 'plus'"):
        ask(CodeReward(problems=[DOUBLE], tests="pluss", pool=fake), ["    return x\n"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "codrl"}, "unknown preset 'codrl'; did you mean 'coderl'"),
        ({"table": {"partial": 1.0}}, "did you mean 'partial_credit'"),
        ({"table": {"passed": "much"}}, "give a number"),
        ({"table": {"efficiency_weight": 2.0}}, r"slow right program would get -1.*up to -0.3"),
        ({"preset": "pass_rate", "table": {"runtime_error": 0.5}}, "may get up to 1.5"),
        ({"tests": "column:"}, "is no pool"),
        ({"executor": "locl"}, "unknown executor 'locl'; did you mean 'local'"),
        ({"max_infra_rate": 2.0}, "give a share"),
        ({"split": "train"}, "belong to a benchmark"),
        ({"cpu_seconds": -1.0}, "limit cpu_seconds"),
        ({"table": {"efficiency_weight": 0.1}}, "name a benchmark"),
        ({"table": {"efficiency_weight": 0.1}, "problems": [LAST]}, "1 of 1 have none: 't/last'"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CodealignError, match=message):
        CodeReward(**options)


def test_options_that_do_not_fit_the_executor_are_named() -> None:
    reward = CodeReward(problems=[DOUBLE], executor_options={"wokers": 2})
    with pytest.raises(CodealignError, match=r"executor_options do not fit.*wokers"):
        ask(reward, ["    return x\n"])


FAST: dict[str, Any] = {"table": {"efficiency_weight": 0.5, "noise_band": 0.1}, "tests": "hidden"}


@functools.cache
def reference() -> Yardstick:
    with Sandbox(1) as box:
        return yardstick(DOUBLE, box)


def timed(fake: Pool, level: int = -1) -> CodeReward:
    reward = CodeReward(problems=[DOUBLE], pool=fake, level=level, **FAST)
    assert reward._stopwatch is not None
    reward._stopwatch._measures[DOUBLE.task_id] = reference()
    return reward


def test_speed_counts_by_the_median_quotient_within_rounds() -> None:
    # Two calls, three rounds of a core that slows down; the program takes half the reference's time in each.
    rounds = [[[1.0, 2.0, 8.0], [1.0, 2.0, 8.0]], [[0.5, 1.0, 4.0], [0.5, 1.0, 4.0]]]
    fake = FakePool({"": result(Verdict.passed, 4, 4)}, timing(rounds))
    reward = timed(fake)
    assert ask(reward, ["    return 2 * x\n"]) == [1.5]
    assert fake.jobs[0].calls == [(1000,), (2000,)] and fake.jobs[0].expected == [2000, 4000]


def test_what_is_wrong_where_it_is_timed_is_wrong_and_what_is_stopped_is_slowest() -> None:
    rounds = [[[1.0], [1.0]]] * 4
    failed = {(1, 0): math.nan, (2, 1): math.inf}
    fake = FakePool({"": result(Verdict.passed, 4, 4)}, timing(rounds, failed))
    reward = timed(fake)
    found = ask(reward, [f"    return 2 * x + 0 * {k}\n" for k in range(3)])
    assert found == [-0.3, 0.5, 1.0]
    assert reward.last[0].status == "failed_test" and reward.last[0].total == 5


def test_a_timing_that_is_lost_is_no_reward_but_wrong_programs_keep_theirs() -> None:
    fake = FakePool({"2 * x": result(Verdict.passed, 4, 4), "x * 3": result(Verdict.wrong_answer, 1, 4)})
    reward = timed(fake)
    assert ask(reward, ["    return 2 * x\n", "    return x * 3\n"]) == [None, -0.3]
    assert reward.counts["infra_error"] == 1


def test_a_reference_that_cannot_be_timed_leaves_the_term_out() -> None:
    fake = FakePool({"": result(Verdict.passed, 4, 4)}, timing([[[1.0]], [[0.1]]], {(0, 0): math.inf}))
    reward = timed(fake, level=0)
    assert ask(reward, ["    return 2 * x\n"]) == [1.0]


def test_a_slow_program_really_is_paid_less_and_one_that_gives_up_nothing(pool: Pool) -> None:
    reward = timed(pool)
    slow = "    for _ in range(100_000): pass\n    return 2 * x\n"
    lazy = "    return 2 * x if x < 100 else 0\n"
    assert ask(reward, [slow, lazy]) == [0.5, -0.3]


def test_a_reward_goes_to_another_process_without_its_workers(pool: Pool) -> None:
    reward = CodeReward(problems=[LAST], tests="hidden", preset="binary", pool=pool)
    assert ask(reward, ["    return xs[-1]\n"], LAST) == [1.0]
    sent = copy.deepcopy(reward)  # by the same methods as pickle, which sends it
    assert sent.pool._executor is None
    assert ask(sent, ["    return xs[-1]\n"], LAST) == [1.0]
    sent.close()


def test_figures_leave_out_what_was_not_measured() -> None:
    found = figures([Outcome("infra_error", 0, 3), Outcome("no_code", 0, 3)])
    assert found["infra_error"] == 0.5 and found["tests_passed"] == 0.0
    assert "log2_speedup" not in found
